/* Small pieces that several layer kinds share: blocks of outputs, and sums in eight lanes. */
#ifndef TINYFLEET_LEARNER_BLOCKS_H
#define TINYFLEET_LEARNER_BLOCKS_H

#include "learner_internal.h"

/* How many neighbouring outputs are summed at once. A host keeps 32 in a few vector registers; a
 * Cortex-M4 has 32 single ones. The choice never changes a bit: each output has its own sum. */
#if defined(__arm__)
#define LEARNER_WIDEST 8u
#else
#define LEARNER_WIDEST 32u
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

LEARNER_INLINE void learner_clear(float *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        values[i] = 0.0f;
    }
}

/* LANES8 of docs/numerics.md: add row[j] * dy[j] to lane j mod 8. */
LEARNER_INLINE void learner_lanes_add(float lanes[LEARNER_LANES], const float *row, const float *dy, uint32_t count)
{
    uint32_t j = 0;
    for (; j + LEARNER_LANES <= count; j += LEARNER_LANES) {
        for (uint32_t lane = 0; lane < LEARNER_LANES; lane++) {
            lanes[lane] += row[j + lane] * dy[j + lane];
        }
    }
    for (uint32_t lane = 0; j + lane < count; lane++) {
        lanes[lane] += row[j + lane] * dy[j + lane];
    }
}

LEARNER_INLINE float learner_lanes_sum(const float lanes[LEARNER_LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

#endif
