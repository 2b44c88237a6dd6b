/* The processor as a reset leaves it, whatever a bootloader did to it before it jumped here.
 *
 * Arduino's bootloader, for one, is a Zephyr program: it jumps from a thread, on that thread's stack, with the MPU on
 * and interrupts held. Left to what is not done here: a jump from within an exception, which no bootloader may make. */
#include "board.h"
#include "memory.h"
#include "registers.h"

#define INTERRUPTS_A_WORD 32u
#define PRIORITIES_A_WORD 4u

static void forget_interrupts(void)
{
    const uint32_t words = (ICTR & ICTR_LINES) + 1u;
    SYST_CSR = 0;
    for (uint32_t n = 0; n < words; n++) {
        NVIC_ICER(n) = UINT32_MAX;
        NVIC_ICPR(n) = UINT32_MAX;
    }
    for (uint32_t n = 0; n < words * (INTERRUPTS_A_WORD / PRIORITIES_A_WORD); n++) {
        NVIC_IPR(n) = 0;
    }
    SCB_ICSR = SCB_ICSR_FORGET_PENDSV_AND_SYSTICK;
}

static void reset_system_control(void)
{
    SCB_VTOR = (uint32_t)port_vectors;
    SCB_AIRCR = SCB_AIRCR_ONE_GROUP;
    SCB_SCR = 0;
    SCB_CCR = SCB_CCR_STACK_ALIGNED;
    for (uint32_t n = 0; n < SCB_SHPRS; n++) {
        SCB_SHPR(n) = 0;
    }
    SCB_SHCSR = 0;
    SCB_CFSR = SCB_CFSR; /* bits stay until written with 1 */
    SCB_HFSR = SCB_HFSR;
}

/* A region that stayed on would count again once the MPU is on. */
static void forget_regions(void)
{
    const uint32_t regions = MPU_TYPE_REGIONS(MPU_TYPE);
    for (uint32_t n = 0; n < regions; n++) {
        MPU_RNR = n;
        MPU_RASR = 0;
    }
}

/* Rounding and flushing as after a reset: the learner's bits depend on them. */
static void reset_fpu(void)
{
    SCB_CPACR |= SCB_CPACR_FPU;
    FPU_FPCCR = FPU_FPCCR_SAVED_WHEN_NEEDED;
    FPU_FPDSCR = 0;
    __asm volatile("dsb\n\tisb\n\tvmsr fpscr, %0" ::"r"(0) : "memory");
}

void reset_state(void)
{
    forget_interrupts();
    reset_system_control();
    forget_regions();
    reset_fpu();
}
