/* Where the processor starts and where its exceptions lead. All interrupts have the highest priority, so none is
 * interrupted by another, and a fault within one is a HardFault. */
#include "../cortex_m/memory.h"
#include "interrupts.h"

#include <stddef.h>

#define EXCEPTIONS 16

typedef void (*vector_t)(void);

static const struct {
    uint32_t *stack;
    vector_t exceptions[EXCEPTIONS - 1];
    vector_t interrupts[IRQS];
} vectors __attribute__((section(".vectors"), used)) = {
    port_stack_top,
    {
        port_reset,
        port_faulted, /* NMI: nothing on this chip raises it */
        port_faulted, /* HardFault */
        port_faulted, /* MemManage */
        port_faulted, /* BusFault */
        port_faulted, /* UsageFault */
        NULL, NULL, NULL, NULL,
        port_faulted, /* SVCall */
        port_faulted, /* DebugMonitor */
        NULL,
        port_faulted, /* PendSV */
        port_faulted, /* SysTick is not used: it stops in sleep */
    },
    {
        [UARTE0_IRQ] = on_uarte,
        [TIMER1_IRQ] = on_timer,
    },
};
