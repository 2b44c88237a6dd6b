/* The few system registers of a Cortex-M4 that the port uses; names and bits as in the ARMv7-M manual. */
#ifndef TINYFLEET_REGISTERS_H
#define TINYFLEET_REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define ICTR REGISTER(0xE000E004u) /* how many interrupts there are: 32 times the low bits, and 32 more */
#define ICTR_LINES 15u

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define SYST_CSR_ENABLE 1u
#define SYST_CSR_INTERRUPT 2u
#define SYST_CSR_PROCESSOR_CLOCK 4u
#define SYST_BITS 0x00FFFFFFu

#define NVIC_ISER(n) REGISTER(0xE000E100u + 4u * (n)) /* of interrupts 32 n and above, a bit each */
#define NVIC_ICER(n) REGISTER(0xE000E180u + 4u * (n))
#define NVIC_ISPR(n) REGISTER(0xE000E200u + 4u * (n))
#define NVIC_ICPR(n) REGISTER(0xE000E280u + 4u * (n))
#define NVIC_IPR(n) REGISTER(0xE000E400u + 4u * (n)) /* of interrupts 4 n and above, a byte each */

#define SCB_ICSR REGISTER(0xE000ED04u)
#define SCB_ICSR_SYSTICK_PENDING (1u << 26)
#define SCB_ICSR_FORGET_PENDSV_AND_SYSTICK ((1u << 27) | (1u << 25))
#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define SCB_AIRCR_SYSTEM_RESET 0x05FA0004u /* the key, and SYSRESETREQ */
#define SCB_AIRCR_ONE_GROUP 0x05FA0000u    /* the key, and PRIGROUP 0 */
#define SCB_SCR REGISTER(0xE000ED10u)
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCR_STACK_ALIGNED (1u << 9) /* to 8 bytes; nothing else traps */
#define SCB_SHPR(n) REGISTER(0xE000ED18u + 4u * (n))
#define SCB_SHPRS 3u
#define SCB_SHCSR REGISTER(0xE000ED24u)
#define SCB_SHCSR_USAGE_BUS_MEMORY (7u << 16) /* each with a handler of its own, rather than HardFault */
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_CFSR_MMARVALID (1u << 7)
#define SCB_CFSR_BFARVALID (1u << 15)
#define SCB_CFSR_STACKING ((1u << 4) | (1u << 12)) /* the frame could not be pushed */
#define SCB_HFSR REGISTER(0xE000ED2Cu)
#define SCB_MMFAR REGISTER(0xE000ED34u)
#define SCB_BFAR REGISTER(0xE000ED38u)
#define SCB_CPACR REGISTER(0xE000ED88u)
#define SCB_CPACR_FPU (15u << 20)
#define FPU_FPCCR REGISTER(0xE000EF34u)
#define FPU_FPCCR_SAVED_WHEN_NEEDED (3u << 30) /* by interrupts: ASPEN, LSPEN */
#define FPU_FPDSCR REGISTER(0xE000EF3Cu)

#define MPU_TYPE REGISTER(0xE000ED90u)
#define MPU_TYPE_REGIONS(type) (((type) >> 8) & 0xFFu)
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_CTRL_ENABLE 1u /* PRIVDEFENA and HFNMIENA stay 0: what no region allows, faults */
#define MPU_RNR REGISTER(0xE000ED98u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define MPU_RASR_ENABLE 1u
#define MPU_RASR_SIZE(log2) (((uint32_t)(log2) - 1u) << 1) /* a region of 2^log2 bytes */
#define MPU_RASR_NORMAL_MEMORY (1u << 17)                  /* TEX 0, C 1, B 0, not shared */
#define MPU_RASR_DEVICE_MEMORY (1u << 16)
#define MPU_RASR_NO_ACCESS (0u << 24)
#define MPU_RASR_READ_WRITE (3u << 24)
#define MPU_RASR_READ_ONLY (6u << 24)
#define MPU_RASR_EXECUTE_NEVER (1u << 28)

#endif
