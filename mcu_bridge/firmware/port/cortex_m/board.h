/* What the part that all Cortex-M boards share and a board's own part tell each other. */
#ifndef TINYFLEET_BOARD_H
#define TINYFLEET_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- A board gives --- */

/* Stops what a bootloader may have left running: above all, what could still write to memory. Has no variables. */
void board_stop_peripherals(void);

/* Before memory is protected and variables matter: clocks, and what lies outside of the regions in mpu.c. */
void board_start_early(void);

/* Starts the counter behind port_ticks, its interrupt, and the serial port. */
void board_start(void);

/* Why the hardware says it was reset, a port_reset_cause_t; PORT_RESET_POWER when it cannot tell. */
uint32_t board_reset_cause(void);

/* Whether the counter behind port_ticks wrapped and clock_wrapped was not called for it yet. */
bool board_wrap_is_pending(void);

/* Lets the serial port's interrupt look for bytes to send. */
void board_start_sending(void);

/* Whether the serial port has taken the last byte off its ring and is done with it. */
bool board_has_sent(void);

/* --- A board's interrupts call --- */

void clock_wrapped(void);

void serial_received(uint8_t byte);
void serial_lost(uint32_t bytes);

/* The longest run of bytes to send that lies in one piece; 0 when there is nothing to send. */
uint32_t serial_next(const volatile uint8_t **bytes);
void serial_sent(uint32_t count);

/* Whether bytes wait for port_receive. */
bool serial_has_received(void);

/* Every interrupt that may matter to the program ends port_wait. */
void wait_is_over(void);

/* --- Resets --- */

/* Resets the board at once; port_reset_cause will then say `cause`. */
__attribute__((noreturn)) void reset_because(uint32_t cause);

/* Finds out why the program runs; once, at the start. */
void reset_find_cause(void);

#endif
