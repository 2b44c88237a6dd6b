/* Any fault: kept in RAM that a reset spares, then the end of the run. */
#include "../port.h"
#include "memory.h"
#include "registers.h"

port_fault_t port_fault __attribute__((section(".noinit")));

static uint32_t faulting_address(uint32_t reason)
{
    if ((reason & SCB_CFSR_MMARVALID) != 0) {
        return SCB_MMFAR;
    }
    return (reason & SCB_CFSR_BFARVALID) != 0 ? SCB_BFAR : 0;
}

/* Reached by a branch from port_faulted alone. */
__attribute__((used, noreturn)) static void keep_fault(void)
{
    port_fault.magic = PORT_FAULT_MAGIC;
    port_fault.reason = SCB_CFSR;
    port_fault.hard = SCB_HFSR;
    port_fault.address = faulting_address(port_fault.reason);
    for (;;) {
        port_end(PORT_FAULT_STATUS);
    }
}

/* The stack may be what overflowed: take another one before anything is pushed. */
__attribute__((naked)) void port_faulted(void)
{
    __asm volatile("ldr r0, =port_fault_stack_top\n\t"
                   "mov sp, r0\n\t"
                   "b keep_fault\n\t"
                   ".ltorg");
}
