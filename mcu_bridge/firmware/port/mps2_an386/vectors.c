/* Where the processor starts and where its exceptions lead. All interrupts have the highest priority, so none is
 * interrupted by another, and a fault within one is a HardFault. */
#include "../cortex_m/board.h"
#include "../cortex_m/memory.h"
#include "interrupts.h"

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
        port_hung,    /* NMI: the watchdog's warning */
        port_faulted, /* HardFault */
        port_faulted, /* MemManage */
        port_faulted, /* BusFault */
        port_faulted, /* UsageFault */
        NULL, NULL, NULL, NULL,
        port_faulted, /* SVCall */
        port_faulted, /* DebugMonitor */
        NULL,
        port_faulted, /* PendSV */
        clock_wrapped, /* SysTick */
    },
    {
        [UART_RECEIVED_IRQ] = on_uart_received,
        [UART_SENT_IRQ] = on_uart_sent,
        [UART_OVERRUN_IRQ] = on_uart_overrun,
    },
};
