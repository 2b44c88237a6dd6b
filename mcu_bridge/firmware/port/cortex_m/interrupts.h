/* Interrupts, held off for a few instructions. */
#ifndef TINYFLEET_INTERRUPTS_H
#define TINYFLEET_INTERRUPTS_H

#include <stdint.h>

static inline uint32_t hold_interrupts(void)
{
    uint32_t before;
    __asm volatile("mrs %0, primask\n\tcpsid i" : "=r"(before)::"memory");
    return before;
}

static inline void release_interrupts(uint32_t before)
{
    __asm volatile("msr primask, %0" ::"r"(before) : "memory");
}

#endif
