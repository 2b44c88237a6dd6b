/* The interrupts that the port uses: their numbers, and who takes them. */
#ifndef TINYFLEET_NRF52840_INTERRUPTS_H
#define TINYFLEET_NRF52840_INTERRUPTS_H

#define UARTE0_IRQ 2u
#define TIMER1_IRQ 9u
#define IRQS 48

void on_uarte(void);
void on_timer(void);

#endif
