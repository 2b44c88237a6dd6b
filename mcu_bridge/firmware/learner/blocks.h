/* Small pieces that several layer kinds share: blocks of outputs, and sums in eight lanes. */
#ifndef TINYFLEET_LEARNER_BLOCKS_H
#define TINYFLEET_LEARNER_BLOCKS_H

#include "learner_internal.h"
#include "m4f.h"

/* How many neighbouring outputs are summed at once. A host keeps 32 in a few vector registers; a
 * Cortex-M4 has 32 single ones. TOGETHER such blocks are worked on side by side: independent sums hide
 * the latency of the adder. The choice never changes a bit: each output has its own sum. */
#if defined(__arm__)
#define LEARNER_WIDEST 8u
#define LEARNER_TOGETHER 2u
#else
#define LEARNER_WIDEST 32u
#define LEARNER_TOGETHER 4u
#endif

/* Run `statement` for blocks [start, start + width) of [0, count). The width is a constant in all
 * but the last branch, so that the compiler can turn a block into vector registers. */
#define LEARNER_IN_BLOCKS(count, start, width, statement)                 \
    for (uint32_t start = 0, rest_ = (count); rest_ > 0;) {               \
        if (LEARNER_WIDEST >= 32u && rest_ >= 32u) {                      \
            const uint32_t width = 32u;                                   \
            statement;                                                    \
            start += 32u, rest_ -= 32u;                                   \
        } else if (LEARNER_WIDEST >= 16u && rest_ >= 16u) {               \
            const uint32_t width = 16u;                                   \
            statement;                                                    \
            start += 16u, rest_ -= 16u;                                   \
        } else if (rest_ >= 8u) {                                         \
            const uint32_t width = 8u;                                    \
            statement;                                                    \
            start += 8u, rest_ -= 8u;                                     \
        } else {                                                          \
            const uint32_t width = rest_;                                 \
            statement;                                                    \
            rest_ = 0;                                                    \
        }                                                                 \
    }

/* Before a loop over a block or over the lanes: keep it a loop until the compiler turns it into
 * vectors. Unrolled first, gcc 12 pairs up values across loops and shuffles more than it computes. */
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define LEARNER_VECTOR _Pragma("GCC unroll 8")
#define LEARNER_UNROLLED _Pragma("GCC unroll 8")
#elif defined(__GNUC__) && !defined(__clang__)
#define LEARNER_VECTOR _Pragma("GCC unroll 1")
#else
#define LEARNER_VECTOR
#endif

#if !defined(LEARNER_UNROLLED)
#define LEARNER_UNROLLED
#endif

/* A row of `width` values to read again and again: on a Cortex-M4F, a whole block is held in registers. Elsewhere, and
 * for what is left over, it is the row itself. */
LEARNER_INLINE const float *learner_hold(float held[LEARNER_LANES], const float *row, uint32_t width)
{
#if LEARNER_M4F
    if (__builtin_constant_p(width) && width == LEARNER_LANES) {
        learner_load8(held, row);
        return held;
    }
#else
    (void)held;
    (void)width;
#endif
    return row;
}

/* row[count] -= step * slope[count], the end of a gradient. */
LEARNER_INLINE void learner_descend(float *restrict row, const float *restrict slope, float step, uint32_t count)
{
    uint32_t j = 0;
#if LEARNER_M4F
    for (; count - j >= LEARNER_LANES; j += LEARNER_LANES) {
        learner_descend8(row + j, slope + j, step);
    }
#endif
    for (; j < count; j++) {
        row[j] = row[j] - step * slope[j];
    }
}

LEARNER_INLINE void learner_clear(float *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        values[i] = 0.0f;
    }
}

#define LEARNER_CHUNK 32u

/* List the inputs [first, end), at most LEARNER_CHUNK, whose gradient is wanted, and set dx to 0 for all of them.
 * After a ReLU an input is not negative, and where it is 0 the ReLU discards the gradient.
 * The last group of LEARNER_TOGETHER is filled up with its last entry: to compute one twice is harmless. */
LEARNER_INLINE uint32_t learner_list_used(uint32_t index[LEARNER_CHUNK + LEARNER_TOGETHER], const float *x,
                                          bool skip_zeros, uint32_t first, uint32_t end, float *dx)
{
    uint32_t count = 0;
    for (uint32_t i = first; i < end; i++) {
        dx[i] = 0.0f;
        index[count] = i;
        count += !skip_zeros || x[i] > 0.0f; /* no branch: zeros come at random */
    }
    for (uint32_t i = 0; i < LEARNER_TOGETHER && count > 0; i++) {
        index[count + i] = index[count - 1];
    }
    return count;
}

#if LEARNER_M4F
/* Lanes [first, first + 4) of each row. */
LEARNER_INLINE void learner_lanes_add4(float lanes[LEARNER_TOGETHER][LEARNER_LANES], uint32_t first,
                                       const float *const row[LEARNER_TOGETHER], uint32_t j, const float *dy)
{
    float gradient[4];
    float weight[4];
    learner_load4_low(gradient, dy + first);
    LEARNER_UNROLLED
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        learner_load4_high(weight, row[r] + j + first);
        LEARNER_UNROLLED
        for (uint32_t lane = 0; lane < 4; lane++) {
            lanes[r][first + lane] += weight[lane] * gradient[lane];
        }
    }
}
#endif

/* LANES8 of docs/numerics.md, for LEARNER_TOGETHER rows at once: add row[r][j] * dy[j] to lane j mod 8 of r. */
LEARNER_INLINE void learner_lanes_add(float lanes[LEARNER_TOGETHER][LEARNER_LANES],
                                      const float *const row[LEARNER_TOGETHER], const float *dy, uint32_t count)
{
    uint32_t left = count;
    uint32_t j = 0;
    for (; left >= LEARNER_LANES; left -= LEARNER_LANES, j += LEARNER_LANES) {
        const float *gradient = dy + j;
#if LEARNER_M4F
        learner_lanes_add4(lanes, 0, row, j, gradient);
        learner_lanes_add4(lanes, 4, row, j, gradient);
#else
        for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
            const float *weight = row[r] + j; /* a pointer: an index could wrap, which hides the run from the compiler */
            LEARNER_VECTOR
            for (uint32_t lane = 0; lane < LEARNER_LANES; lane++) {
                lanes[r][lane] += weight[lane] * gradient[lane];
            }
        }
#endif
    }
    for (uint32_t r = 0; r < LEARNER_TOGETHER && left > 0; r++) {
        LEARNER_VECTOR
        for (uint32_t lane = 0; lane < LEARNER_LANES; lane++) {
            lanes[r][lane] += lane < left ? row[r][j + lane] * dy[j + lane] : 0.0f;
        }
    }
}

/* The eight lanes of each row to one: ((s0+s4) + (s2+s6)) + ((s1+s5) + (s3+s7)). */
LEARNER_INLINE void learner_lanes_sum(float lanes[LEARNER_TOGETHER][LEARNER_LANES], float sum[LEARNER_TOGETHER])
{
    float half[LEARNER_TOGETHER][4];
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        LEARNER_VECTOR
        for (uint32_t lane = 0; lane < 4; lane++) {
            half[r][lane] = lanes[r][lane] + lanes[r][lane + 4];
        }
    }
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        sum[r] = (half[r][0] + half[r][2]) + (half[r][1] + half[r][3]);
    }
}

#endif
