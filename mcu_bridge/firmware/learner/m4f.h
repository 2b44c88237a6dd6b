/* Loads and stores of neighbours by one instruction of a Cortex-M4F, which gcc 12 does not find by itself.
 *
 * They move values and compute nothing, so they change no bit. The registers are fixed because one such
 * instruction takes neighbouring ones only. */
#ifndef TINYFLEET_LEARNER_M4F_H
#define TINYFLEET_LEARNER_M4F_H

#include "learner_internal.h"

#if defined(__ARM_ARCH_7EM__) && defined(__ARM_FP) && defined(__GNUC__)
#define LEARNER_M4F 1
#else
#define LEARNER_M4F 0
#endif

/* Before a loop of eight whose values shall stay in registers. */
#if LEARNER_M4F
#define LEARNER_UNROLLED _Pragma("GCC unroll 8")
#else
#define LEARNER_UNROLLED
#endif

/* Whether a block of `width` outputs is worked on in eights of registers. */
#if LEARNER_M4F
#define LEARNER_IN_EIGHTS(width) (__builtin_constant_p(width) && (width) % 8u == 0)
#else
#define LEARNER_IN_EIGHTS(width) false
#endif

#if LEARNER_M4F

typedef float learner_eight_t[8];

#define LEARNER_REGISTERS8(a, b, c, d, e, f, g, h) \
    register float r0 __asm(#a);                   \
    register float r1 __asm(#b);                   \
    register float r2 __asm(#c);                   \
    register float r3 __asm(#d);                   \
    register float r4 __asm(#e);                   \
    register float r5 __asm(#f);                   \
    register float r6 __asm(#g);                   \
    register float r7 __asm(#h)

#define LEARNER_OUT8 "=t"(r0), "=t"(r1), "=t"(r2), "=t"(r3), "=t"(r4), "=t"(r5), "=t"(r6), "=t"(r7)

#define LEARNER_COPY8(to) \
    to[0] = r0, to[1] = r1, to[2] = r2, to[3] = r3, to[4] = r4, to[5] = r5, to[6] = r6, to[7] = r7

LEARNER_INLINE void learner_load8(float *to, const float *from)
{
    LEARNER_REGISTERS8(s16, s17, s18, s19, s20, s21, s22, s23);
    __asm("vldmia %8, {s16-s23}" : LEARNER_OUT8 : "r"(from), "m"(*(const learner_eight_t *)from));
    LEARNER_COPY8(to);
}

/* These two move the pointer on by eight, which is free. */
LEARNER_INLINE void learner_next8(float *to, const float **from)
{
    const float *at = *from;
    LEARNER_REGISTERS8(s16, s17, s18, s19, s20, s21, s22, s23);
    __asm("vldmia %8!, {s16-s23}" : LEARNER_OUT8, "+r"(at) : "m"(*(const learner_eight_t *)*from));
    LEARNER_COPY8(to);
    *from = at;
}

LEARNER_INLINE void learner_next8_high(float *to, const float **from)
{
    const float *at = *from;
    LEARNER_REGISTERS8(s24, s25, s26, s27, s28, s29, s30, s31);
    __asm("vldmia %8!, {s24-s31}" : LEARNER_OUT8, "+r"(at) : "m"(*(const learner_eight_t *)*from));
    LEARNER_COPY8(to);
    *from = at;
}

LEARNER_INLINE void learner_store8(float *to, const float *from)
{
    register float r0 __asm("s16") = from[0];
    register float r1 __asm("s17") = from[1];
    register float r2 __asm("s18") = from[2];
    register float r3 __asm("s19") = from[3];
    register float r4 __asm("s20") = from[4];
    register float r5 __asm("s21") = from[5];
    register float r6 __asm("s22") = from[6];
    register float r7 __asm("s23") = from[7];
    __asm("vstmia %1, {s16-s23}"
          : "=m"(*(learner_eight_t *)to)
          : "r"(to), "t"(r0), "t"(r1), "t"(r2), "t"(r3), "t"(r4), "t"(r5), "t"(r6), "t"(r7));
}

#else

LEARNER_INLINE void learner_load8(float *to, const float *from)
{
    for (uint32_t j = 0; j < 8; j++) {
        to[j] = from[j];
    }
}

LEARNER_INLINE void learner_next8(float *to, const float **from)
{
    learner_load8(to, *from);
    *from += 8;
}

LEARNER_INLINE void learner_next8_high(float *to, const float **from)
{
    learner_next8(to, from);
}

LEARNER_INLINE void learner_store8(float *to, const float *from)
{
    learner_load8(to, from);
}

#endif

/* sum[8] += value * row[8]. */
LEARNER_INLINE void learner_add_scaled8(float *sum, float value, const float *row)
{
    float weight[8];
    learner_load8(weight, row);
    LEARNER_UNROLLED
    for (uint32_t j = 0; j < 8; j++) {
        sum[j] += value * weight[j];
    }
}

/* sum[8] += a[8] * b[8]; moves both on by eight. */
LEARNER_INLINE void learner_add_products8(float *sum, const float **a, const float **b)
{
    float left[8];
    float right[8];
    learner_next8(left, a);
    learner_next8_high(right, b);
    LEARNER_UNROLLED
    for (uint32_t j = 0; j < 8; j++) {
        sum[j] += left[j] * right[j];
    }
}

/* y[8] = sum[8] + bias[8]. */
LEARNER_INLINE void learner_add_bias8(float *y, const float *sum, const float *bias)
{
    float out[8];
    learner_load8(out, bias);
    LEARNER_UNROLLED
    for (uint32_t j = 0; j < 8; j++) {
        out[j] = sum[j] + out[j];
    }
    learner_store8(y, out);
}

/* target[8] -= rate * sum[8], the sums in registers. */
LEARNER_INLINE void learner_settle8(float *target, const float *sum, float rate)
{
    float old[8];
    learner_load8(old, target);
    LEARNER_UNROLLED
    for (uint32_t j = 0; j < 8; j++) {
        old[j] = old[j] - rate * sum[j];
    }
    learner_store8(target, old);
}

/* row[8] -= step * slope[8]. */
LEARNER_INLINE void learner_descend8(float *row, const float *slope, float step)
{
    float old[8];
    float gradient[8];
    learner_next8_high(gradient, &slope);
    learner_load8(old, row);
    LEARNER_UNROLLED
    for (uint32_t j = 0; j < 8; j++) {
        old[j] = old[j] - step * gradient[j];
    }
    learner_store8(row, old);
}


#endif
