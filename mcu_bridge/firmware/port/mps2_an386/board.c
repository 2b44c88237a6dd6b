/* The board MPS2 with the FPGA image AN386, as QEMU emulates it: SysTick as clock, UART0 as line, the CMSDK watchdog.
 *
 * Addresses and interrupts: Arm's application note AN386; registers: Cortex-M System Design Kit, DDI 0479. */
#include "../cortex_m/board.h"
#include "../cortex_m/registers.h"
#include "../port.h"
#include "interrupts.h"

#define CLOCK_HZ 25000000u
#define BAUD 115200u /* QEMU is as fast as it can be, whatever this says */

#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_STATE_SEND_FULL (1u << 0)
#define UART_STATE_RECEIVE_FULL (1u << 1)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_CTRL_BOTH_WAYS 3u
#define UART_CTRL_INTERRUPTS ((1u << 2) | (1u << 3) | (1u << 5)) /* sent, received, received too much */
#define UART_INTCLEAR REGISTER(0x4000400Cu)
#define UART_INT_SENT (1u << 0)
#define UART_INT_RECEIVED (1u << 1)
#define UART_INT_OVERRUN (1u << 3)
#define UART_BAUDDIV REGISTER(0x40004010u)

#define WATCHDOG_LOAD REGISTER(0x40008000u)
#define WATCHDOG_CONTROL REGISTER(0x40008008u)
#define WATCHDOG_CONTROL_WARN_AND_RESET 3u
#define WATCHDOG_INTCLR REGISTER(0x4000800Cu)
#define WATCHDOG_LOCK REGISTER(0x40008C00u)
#define WATCHDOG_UNLOCK 0x1ACCE551u

/* Whoever makes the board may leave an id in the last 8 bytes of the flash; QEMU: -device loader,addr=0xFFFF8,... */
#define UNIQUE_ID ((const volatile uint8_t *)0x000FFFF8u)

const char port_board_name[16] = "mps2-an386";
const uint32_t port_clock_hz = CLOCK_HZ;
const uint32_t port_ticks_hz = CLOCK_HZ;

void board_stop_peripherals(void)
{
    UART_CTRL = 0;
}

void board_start_early(void)
{
}

uint32_t board_reset_cause(void)
{
    return PORT_RESET_POWER;
}

void port_unique_id(uint8_t id[8])
{
    for (size_t i = 0; i < 8; i++) {
        id[i] = UNIQUE_ID[i];
    }
}

/* --- The clock: SysTick counts down --- */

static void start_clock(void)
{
    SYST_RVR = SYST_BITS;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_ENABLE | SYST_CSR_INTERRUPT | SYST_CSR_PROCESSOR_CLOCK;
}

uint32_t port_ticks(void)
{
    return SYST_BITS - SYST_CVR;
}

bool board_wrap_is_pending(void)
{
    return (SCB_ICSR & SCB_ICSR_SYSTICK_PENDING) != 0;
}

/* --- The line --- */

static void start_uart(void)
{
    UART_BAUDDIV = CLOCK_HZ / BAUD;
    UART_CTRL = UART_CTRL_BOTH_WAYS | UART_CTRL_INTERRUPTS;
    NVIC_ISER(0) = (1u << UART_RECEIVED_IRQ) | (1u << UART_SENT_IRQ) | (1u << UART_OVERRUN_IRQ);
}

void on_uart_received(void)
{
    UART_INTCLEAR = UART_INT_RECEIVED;
    while ((UART_STATE & UART_STATE_RECEIVE_FULL) != 0) {
        serial_received((uint8_t)UART_DATA);
    }
}

void on_uart_overrun(void)
{
    UART_INTCLEAR = UART_INT_OVERRUN;
    serial_lost(1);
}

/* Comes when a byte left, and when board_start_sending asks. */
void on_uart_sent(void)
{
    const volatile uint8_t *bytes;
    UART_INTCLEAR = UART_INT_SENT;
    while ((UART_STATE & UART_STATE_SEND_FULL) == 0 && serial_next(&bytes) > 0) {
        UART_DATA = *bytes;
        serial_sent(1);
    }
}

void board_start_sending(void)
{
    NVIC_ISPR(0) = 1u << UART_SENT_IRQ;
}

bool board_has_sent(void)
{
    return (UART_STATE & UART_STATE_SEND_FULL) == 0;
}

/* --- The watchdog: its first expiry is an NMI, which keeps the pc and resets; a second one resets by itself --- */

void port_watchdog_start(void)
{
    WATCHDOG_LOCK = WATCHDOG_UNLOCK;
    WATCHDOG_LOAD = CLOCK_HZ / 1000u * PORT_WATCHDOG_MS;
    WATCHDOG_CONTROL = WATCHDOG_CONTROL_WARN_AND_RESET;
    WATCHDOG_LOCK = 0;
}

void port_watchdog_feed(void)
{
    WATCHDOG_LOCK = WATCHDOG_UNLOCK;
    WATCHDOG_INTCLR = 1;
    WATCHDOG_LOCK = 0;
}

void board_start(void)
{
    start_clock();
    start_uart();
}
