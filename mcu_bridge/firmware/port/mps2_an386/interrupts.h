/* The board's interrupts: their numbers, and who takes them. */
#ifndef TINYFLEET_MPS2_AN386_INTERRUPTS_H
#define TINYFLEET_MPS2_AN386_INTERRUPTS_H

#define UART_RECEIVED_IRQ 0u
#define UART_SENT_IRQ 1u
#define UART_OVERRUN_IRQ 12u
#define IRQS 13

void on_uart_received(void);
void on_uart_sent(void);
void on_uart_overrun(void);

#endif
