/* The memory protection unit: regions with a higher number win where they overlap. */
#include "memory.h"
#include "registers.h"

#define LOG2_FLASH 20u      /* 1 MB */
#define LOG2_RAM 18u        /* 256 KB */
#define LOG2_GUARD 5u       /* 32 bytes, the least there is */
#define LOG2_PERIPHERAL 29u /* 512 MB */

static void protect(uint32_t region, uint32_t base, uint32_t log2_bytes, uint32_t access)
{
    MPU_RNR = region;
    MPU_RBAR = base;
    MPU_RASR = access | MPU_RASR_SIZE(log2_bytes) | MPU_RASR_ENABLE;
}

void port_protect_memory(void)
{
    const uint32_t data = MPU_RASR_READ_WRITE | MPU_RASR_EXECUTE_NEVER;
    protect(0, 0x00000000u, LOG2_FLASH, MPU_RASR_READ_ONLY | MPU_RASR_NORMAL_MEMORY);
    protect(1, 0x20000000u, LOG2_RAM, data | MPU_RASR_NORMAL_MEMORY);
    protect(2, 0x40000000u, LOG2_PERIPHERAL, data | MPU_RASR_DEVICE_MEMORY);
    protect(3, (uint32_t)port_guard, LOG2_GUARD, MPU_RASR_NO_ACCESS | MPU_RASR_EXECUTE_NEVER);
    SCB_SHCSR |= SCB_SHCSR_USAGE_BUS_MEMORY;
    MPU_CTRL = MPU_CTRL_ENABLE;
    __asm volatile("dsb\n\tisb" ::: "memory");
}
