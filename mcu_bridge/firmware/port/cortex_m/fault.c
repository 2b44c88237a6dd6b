/* Faults and hangs: kept in RAM that a reset spares, then the end of the run. */
#include "../port.h"
#include "board.h"
#include "memory.h"
#include "registers.h"

/* What the processor pushes when it takes an exception. */
typedef struct {
    uint32_t r0_to_r3[4];
    uint32_t r12;
    uint32_t lr;
    uint32_t pc;
    uint32_t psr;
} frame_t;

port_fault_t port_fault __attribute__((section(".noinit")));

static uint32_t faulting_address(uint32_t reason)
{
    if ((reason & SCB_CFSR_MMARVALID) != 0) {
        return SCB_MMFAR;
    }
    return (reason & SCB_CFSR_BFARVALID) != 0 ? SCB_BFAR : 0;
}

/* The frame is only there when the stack could take it. */
static uint32_t faulting_pc(uint32_t reason, const frame_t *frame)
{
    const uint32_t at = (uint32_t)frame;
    const bool in_stack = at >= (uint32_t)port_stack_bottom && at <= (uint32_t)port_stack_top - sizeof *frame;
    return in_stack && (reason & SCB_CFSR_STACKING) == 0 ? frame->pc : 0;
}

/* Reached by a branch from port_faulted alone. */
__attribute__((used, noreturn)) static void keep_fault(const frame_t *frame)
{
    const uint32_t reason = SCB_CFSR;
    const uint32_t pc = faulting_pc(reason, frame);
    port_fault = (port_fault_t){PORT_FAULT_MAGIC, reason, SCB_HFSR, faulting_address(reason), pc};
    for (;;) {
        port_end(PORT_FAULT_STATUS);
    }
}

/* Reached by a branch from port_hung alone. */
__attribute__((used, noreturn)) static void keep_hang(const frame_t *frame)
{
    port_fault = (port_fault_t){PORT_FAULT_MAGIC, 0, 0, 0, faulting_pc(0, frame)};
    reset_because(PORT_RESET_WATCHDOG);
}

/* The stack may be what overflowed: take another one before anything is pushed. */
__attribute__((naked)) void port_faulted(void)
{
    __asm volatile("mov r0, sp\n\t"
                   "ldr r1, =port_fault_stack_top\n\t"
                   "mov sp, r1\n\t"
                   "b keep_fault\n\t"
                   ".ltorg");
}

__attribute__((naked)) void port_hung(void)
{
    __asm volatile("mov r0, sp\n\t"
                   "ldr r1, =port_fault_stack_top\n\t"
                   "mov sp, r1\n\t"
                   "b keep_hang\n\t"
                   ".ltorg");
}
