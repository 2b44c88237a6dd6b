/* From reset, or from a bootloader, to the program: a known state, variables, the stack's mark, memory protection, the board's own parts. */
#include "../port.h"
#include "board.h"
#include "memory.h"
#include "registers.h"

#define STACK_MARK 0xC5C5C5C5u /* what the stack has not reached yet */

static void set_variables(void)
{
    const uint32_t *from = port_data_load;
    for (uint32_t *to = port_data_start; to < port_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = port_bss_start; to < port_bss_end; to++) {
        *to = 0;
    }
}

static void mark_stack(void)
{
    uint32_t here;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (volatile uint32_t *at = port_stack_bottom; (uint32_t)at < here; at++) {
        *at = STACK_MARK;
    }
}

uint32_t port_stack_used(void)
{
    const uint32_t *at = port_stack_bottom;
    while (at < port_stack_top && *at == STACK_MARK) {
        at++;
    }
    return (uint32_t)(port_stack_top - at) * (uint32_t)sizeof *at;
}

uint32_t port_stack_size(void)
{
    return (uint32_t)(port_stack_top - port_stack_bottom) * (uint32_t)sizeof *port_stack_top;
}

void *port_free_memory(size_t *bytes)
{
    *bytes = (size_t)(port_free_end - port_free_start) * sizeof *port_free_start;
    return port_free_start;
}

/* Reached by a branch from port_reset alone. Interrupts are let through when nothing of another program is left. */
__attribute__((used, noreturn)) static void start_program(void)
{
    reset_state();
    board_stop_peripherals();
    mark_stack();
    set_variables();
    board_start_early();
    reset_find_cause();
    port_protect_memory();
    __asm volatile("cpsie i" ::: "memory");
    board_start();
    for (;;) {
        port_end(port_main());
    }
}

/* A bootloader may jump here on a stack of its own, which its memory protection guards: that goes first, then the stack
 * is ours, before anything is pushed. Neither basepri nor faultmask may hold what primask is to let through. */
__attribute__((naked)) void port_reset(void)
{
    __asm volatile("cpsid i\n\t"
                   "movs r0, #0\n\t"
                   "ldr r1, =0xE000ED94\n\t" /* MPU_CTRL */
                   "str r0, [r1]\n\t"
                   "dsb\n\t"
                   "msr control, r0\n\t"
                   "isb\n\t"
                   "ldr r1, =port_stack_top\n\t"
                   "msr msp, r1\n\t"
                   "msr psp, r0\n\t"
                   "msr basepri, r0\n\t"
                   "msr faultmask, r0\n\t"
                   "isb\n\t"
                   "b start_program\n\t"
                   ".ltorg");
}
