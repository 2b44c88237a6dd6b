/* Where the processor starts and where its exceptions lead. No interrupt is enabled yet, so the table ends early. */
#include "../cortex_m/memory.h"

#include <stddef.h>

#define EXCEPTIONS 16

typedef void (*vector_t)(void);

static const struct {
    uint32_t *stack;
    vector_t handlers[EXCEPTIONS - 1];
} vectors __attribute__((section(".vectors"), used)) = {
    port_stack_top,
    {
        port_reset,
        port_faulted, /* NMI */
        port_faulted, /* HardFault */
        port_faulted, /* MemManage */
        port_faulted, /* BusFault */
        port_faulted, /* UsageFault */
        NULL, NULL, NULL, NULL,
        port_faulted, /* SVCall */
        port_faulted, /* DebugMonitor */
        NULL,
        port_faulted, /* PendSV */
        port_faulted, /* SysTick: it counts, its interrupt stays off */
    },
};
