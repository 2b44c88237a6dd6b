/* A bootloader that leaves everything in disorder and jumps to 0x10000: a program that starts there must not mind.
 *
 * It has no part of port/: it is what comes before. As Arduino's it runs at each reset, uses the lowest 40 KB of the RAM,
 * and jumps from a thread, on that thread's stack, with the MPU on. The rest is as bad as it gets on this board. */
#include "../port/cortex_m/registers.h"

#include <stddef.h>

#define APPLICATION 0x00010000u
#define RAM 0x20000000u
#define USED_BYTES 0x9E14u
#define STACK 0x20030000u
#define THREAD_STACK 0x20028000u

#define UART_CTRL REGISTER(0x40004008u)
#define UART_CTRL_ALL 0x3Fu
#define WATCHDOG_LOAD REGISTER(0x40008000u)
#define WATCHDOG_CONTROL REGISTER(0x40008008u)
#define WATCHDOG_LOCK REGISTER(0x40008C00u)

#define LOWEST_PRIORITIES 0xE0E0E0E0u
#define SLEEP_ON_EXIT (1u << 1)
#define TRAP_UNALIGNED_AND_DIVISION (3u << 3)
#define SPLIT_PRIORITIES 0x05FA0700u
#define PEND_PENDSV_AND_SYSTICK ((1u << 28) | (1u << 26))
#define ROUND_TO_ZERO_AND_FLUSH ((3u << 22) | (1u << 24) | (1u << 25)) /* and the default NaN */
#define MPU_CTRL_WITH_BACKGROUND 5u

void port_reset(void);

static const struct {
    uint32_t stack;
    void (*reset)(void);
    uint32_t others[14 + 32]; /* whoever is sent there locks up */
} vectors __attribute__((section(".vectors"), used)) = {STACK, port_reset, {0}};

/* memory.ld wants it full; nothing here writes to it. */
__attribute__((section(".noinit"), used)) static uint32_t kept[6];

static void use_memory(void)
{
    for (uint32_t at = RAM; at < RAM + USED_BYTES; at += 4) {
        REGISTER(at) = 0xA5A5A5A5u;
    }
}

static void leave_peripherals_on(void)
{
    UART_CTRL = UART_CTRL_ALL;
    WATCHDOG_LOCK = 0x1ACCE551u;
    WATCHDOG_LOAD = 2u * 25000000u;
    WATCHDOG_CONTROL = 3;
}

static void leave_interrupts_pending(void)
{
    SYST_RVR = 1000;
    SYST_CSR = SYST_CSR_ENABLE | SYST_CSR_INTERRUPT | SYST_CSR_PROCESSOR_CLOCK;
    for (uint32_t n = 0; n < 8; n++) {
        NVIC_IPR(n) = LOWEST_PRIORITIES;
    }
    NVIC_ISER(0) = UINT32_MAX;
    NVIC_ISPR(0) = UINT32_MAX;
    SCB_ICSR = PEND_PENDSV_AND_SYSTICK;
}

static void leave_the_processor_odd(void)
{
    SCB_AIRCR = SPLIT_PRIORITIES;
    SCB_SCR = SLEEP_ON_EXIT;
    SCB_CCR = TRAP_UNALIGNED_AND_DIVISION;
    for (uint32_t n = 0; n < SCB_SHPRS; n++) {
        SCB_SHPR(n) = LOWEST_PRIORITIES;
    }
    FPU_FPCCR = 0;
    FPU_FPDSCR = ROUND_TO_ZERO_AND_FLUSH;
    __asm volatile("vmsr fpscr, %0" ::"r"(ROUND_TO_ZERO_AND_FLUSH));
}

/* Nobody touches the lowest 4 KB, which the application has its stack in, nor writes to the rest of the RAM's start. */
static void protect_what_is_mine(void)
{
    MPU_RNR = 7;
    MPU_RBAR = RAM;
    MPU_RASR = MPU_RASR_NO_ACCESS | MPU_RASR_EXECUTE_NEVER | MPU_RASR_SIZE(12) | MPU_RASR_ENABLE;
    MPU_RNR = 6;
    MPU_RBAR = RAM;
    MPU_RASR = MPU_RASR_READ_ONLY | MPU_RASR_EXECUTE_NEVER | MPU_RASR_SIZE(15) | MPU_RASR_ENABLE;
    MPU_CTRL = MPU_CTRL_WITH_BACKGROUND;
    __asm volatile("dsb\n\tisb" ::: "memory");
}

void port_reset(void)
{
    __asm volatile("cpsid i" ::: "memory");
    use_memory();
    leave_peripherals_on();
    leave_interrupts_pending();
    SCB_CPACR |= SCB_CPACR_FPU;
    __asm volatile("dsb\n\tisb" ::: "memory");
    leave_the_processor_odd();
    protect_what_is_mine();
    __asm volatile("msr psp, %0\n\t"
                   "msr basepri, %1\n\t"
                   "cpsid f\n\t"
                   "msr control, %2\n\t"
                   "isb\n\t"
                   "bx %3" ::"r"(THREAD_STACK),
                   "r"(0x20u), "r"(6u), /* the thread's stack, and floating point in use */
                   "r"(REGISTER(APPLICATION + 4u))
                   : "memory");
}
