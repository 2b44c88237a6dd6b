/* Small pieces that several layer kinds share: blocks of outputs, and sums in eight lanes. */
#ifndef TINYFLEET_LEARNER_BLOCKS_H
#define TINYFLEET_LEARNER_BLOCKS_H

#include "learner_internal.h"
#include "m4f.h"

#include <string.h>

/* How many neighbouring outputs are summed at once. A host keeps 32 in a few vector registers, a Cortex-M4F 16 of
 * its 32 single ones. TOGETHER such blocks are worked on side by side: independent sums hide the latency of a host's
 * adder. A microcontroller's adder has none to hide; it takes blocks one by one, so that a branch can leave out those
 * whose factor is zero. The choice never changes a bit: each output has its own sum. Tests build a host's library that
 * goes one by one, too. */
#if defined(LEARNER_ONE_BY_ONE) || (defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#define LEARNER_WIDEST 16u
#define LEARNER_TOGETHER 1u
#elif defined(__arm__)
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
#define LEARNER_VECTOR _Pragma("GCC unroll 16")
#elif defined(__GNUC__) && !defined(__clang__)
#define LEARNER_VECTOR _Pragma("GCC unroll 1")
#else
#define LEARNER_VECTOR
#endif

/* Whether a value is +0: a test of its bits takes a Cortex-M4 fewer instructions than one of its value. */
LEARNER_INLINE bool learner_is_zero(const float *value)
{
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    return bits == 0;
}

/* Whether a factor is left out because it adds nothing; -0 adds nothing either, but is rare. */
LEARNER_INLINE bool learner_is_skipped(const float *factor)
{
    return LEARNER_TOGETHER == 1u && learner_is_zero(factor);
}

/* sum[width] += value * row[width]. */
LEARNER_INLINE void learner_add_scaled(float *sum, float value, const float *row, uint32_t width)
{
    if (LEARNER_IN_EIGHTS(width)) {
        LEARNER_UNROLLED
        for (uint32_t j = 0; j < width; j += 8u) {
            learner_add_scaled8(sum + j, value, row + j);
        }
        return;
    }
    LEARNER_VECTOR
    for (uint32_t j = 0; j < width; j++) {
        sum[j] += value * row[j];
    }
}

/* row[count] -= step * slope[count], the end of a gradient. */
LEARNER_INLINE void learner_descend(float *restrict row, const float *restrict slope, float step, uint32_t count)
{
    uint32_t j = 0;
    for (; LEARNER_M4F && count - j >= 8u; j += 8u) {
        learner_descend8(row + j, slope + j, step);
    }
    for (; j < count; j++) {
        row[j] = row[j] - step * slope[j];
    }
}

/* The part of a window that lies inside the image, along one side: taps [first, last). */
typedef struct {
    uint32_t first;
    uint32_t last;
} learner_inside_t;

LEARNER_INLINE learner_inside_t learner_inside_of(const learner_layer_t *layer, uint32_t out, uint32_t side_in)
{
    const uint32_t start = out * layer->stride; /* counted from the padding's edge */
    learner_inside_t inside = {0, layer->kernel};
    if (start < layer->padding) {
        inside.first = layer->padding - start;
    }
    if (side_in + layer->padding - start < layer->kernel) {
        inside.last = side_in + layer->padding - start;
    }
    return inside;
}

LEARNER_INLINE void learner_clear(float *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        values[i] = 0.0f;
    }
}

/* y[width] = sum[width] + bias[width], the end of an output. */
LEARNER_INLINE void learner_add_bias(float *y, const float *sum, const float *bias, uint32_t width)
{
    if (LEARNER_IN_EIGHTS(width)) {
        LEARNER_UNROLLED
        for (uint32_t j = 0; j < width; j += 8u) {
            learner_add_bias8(y + j, sum + j, bias + j);
        }
        return;
    }
    LEARNER_VECTOR
    for (uint32_t j = 0; j < width; j++) {
        y[j] = sum[j] + bias[j];
    }
}

/* The end of a gradient that was summed in registers: no memory grows with the parameters. */
LEARNER_INLINE void learner_settle(float *target, const float *sum, float rate, uint32_t width)
{
    if (LEARNER_IN_EIGHTS(width)) {
        LEARNER_UNROLLED
        for (uint32_t j = 0; j < width; j += 8u) {
            learner_settle8(target + j, sum + j, rate);
        }
        return;
    }
    LEARNER_VECTOR
    for (uint32_t j = 0; j < width; j++) {
        target[j] = target[j] - rate * sum[j];
    }
}

#define LEARNER_CHUNK (LEARNER_TOGETHER == 1u ? 1u : 32u)

/* List the inputs [first, end), at most LEARNER_CHUNK, whose gradient is wanted, and set dx to 0 for all of them.
 * What a ReLU let through is +0 or above, and where it is +0 the ReLU discards the gradient.
 * The last group of LEARNER_TOGETHER is filled up with its last entry: to compute one twice is harmless. */
LEARNER_INLINE uint32_t learner_list_used(uint32_t index[LEARNER_CHUNK + LEARNER_TOGETHER], const float *x,
                                          bool skip_zeros, uint32_t first, uint32_t end, float *dx)
{
    uint32_t count = 0;
    for (uint32_t i = first; i < end; i++) {
        dx[i] = 0.0f;
        index[count] = i;
        count += !skip_zeros || !learner_is_zero(x + i); /* no branch: zeros come at random */
    }
    for (uint32_t i = 0; i < LEARNER_TOGETHER && count > 0; i++) {
        index[count + i] = index[count - 1];
    }
    return count;
}

/* LANES8 of docs/numerics.md, for LEARNER_TOGETHER rows at once: add row[r][j] * dy[j] to lane j mod 8 of r. */
LEARNER_INLINE void learner_lanes_add(float lanes[LEARNER_TOGETHER][LEARNER_LANES],
                                      const float *const row[LEARNER_TOGETHER], const float *dy, uint32_t count)
{
    const uint32_t left = count % LEARNER_LANES;
    uint32_t eights = count / LEARNER_LANES;
    const float *weight[LEARNER_TOGETHER];
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        weight[r] = row[r];
    }
    for (; LEARNER_M4F && eights > 0; eights--) {
        learner_add_products8(lanes[0], &weight[0], &dy);
    }
    for (; eights > 0; eights--, dy += LEARNER_LANES) {
        for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
            LEARNER_VECTOR
            for (uint32_t lane = 0; lane < LEARNER_LANES; lane++) {
                lanes[r][lane] += weight[r][lane] * dy[lane];
            }
            weight[r] += LEARNER_LANES;
        }
    }
    for (uint32_t r = 0; r < LEARNER_TOGETHER && left > 0; r++) {
        LEARNER_VECTOR
        for (uint32_t lane = 0; lane < LEARNER_LANES; lane++) {
            lanes[r][lane] += lane < left ? weight[r][lane] * dy[lane] : 0.0f;
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
