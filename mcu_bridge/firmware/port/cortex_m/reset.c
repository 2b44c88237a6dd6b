/* Resets, and why they came: a word in RAM that a reset leaves alone, else what the hardware knows. */
#include "../port.h"
#include "board.h"
#include "registers.h"

#define CAUSE_MARK 0x52535400u /* "RST", and the cause below it */

static uint32_t kept __attribute__((section(".noinit")));
static uint32_t found;

void reset_because(uint32_t cause)
{
    kept = CAUSE_MARK | cause;
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = SCB_AIRCR_SYSTEM_RESET;
    __asm volatile("dsb" ::: "memory");
    for (;;) {
    }
}

void reset_find_cause(void)
{
    const uint32_t cause = kept ^ CAUSE_MARK;
    found = cause >= PORT_RESET_SOFTWARE && cause <= PORT_RESET_FAULT ? cause : board_reset_cause();
    kept = 0;
}

void port_reset_board(void)
{
    reset_because(PORT_RESET_SOFTWARE);
}

uint32_t port_reset_cause(void)
{
    return found;
}
