/* Refer to pcg64.h. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random
 * Number Generation", 2014: a step of the linear congruential generator, then its state's two halves, folded and turned. */
#include "pcg64.h"

#define MULTIPLIER_HIGH 0x2360ED051FC65DA4u
#define MULTIPLIER_LOW 0x4385DF649FCCF645u

/* The upper 64 of the product's 128 bits, from four products of 32 bits. */
static uint64_t high_product(uint64_t a, uint64_t b)
{
    const uint64_t a_low = (uint32_t)a;
    const uint64_t a_high = a >> 32;
    const uint64_t b_low = (uint32_t)b;
    const uint64_t b_high = b >> 32;
    const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
    const uint64_t other = a_low * b_high + (uint32_t)middle;
    return a_high * b_high + (middle >> 32) + (other >> 32);
}

/* state <- state * multiplier + increment, modulo 2^128. */
static void step(pcg64_t *stream)
{
    const uint64_t low = stream->state_low * MULTIPLIER_LOW;
    const uint64_t high = high_product(stream->state_low, MULTIPLIER_LOW) + stream->state_low * MULTIPLIER_HIGH +
                          stream->state_high * MULTIPLIER_LOW;
    stream->state_low = low + stream->increment_low;
    stream->state_high = high + stream->increment_high + (stream->state_low < low ? 1u : 0u);
}

static uint64_t next(pcg64_t *stream)
{
    uint64_t folded;
    uint32_t turn;
    step(stream);
    folded = stream->state_high ^ stream->state_low;
    turn = (uint32_t)(stream->state_high >> 58);
    return folded >> turn | folded << (-turn & 63u);
}

double pcg64_uniform(pcg64_t *stream)
{
    return (double)(next(stream) >> 11) * 0x1p-53;
}
