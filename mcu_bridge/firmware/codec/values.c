/* Refer to values.h. What is written never lies beyond what was read last, so that one place is enough. */
#include "values.h"

#include <string.h>

#define STEPS 127          /* of an int8 on either side of zero */
#define MAX_SCALE 0x1p121f /* 127 times this is finite */
#define MAGNITUDE 0x7FFFFFFFu
#define FLOAT16_LARGEST 0x477FE000u         /* 65,504 */
#define FLOAT16_SMALLEST_NORMAL 0x38800000u /* 2^-14 */
#define HALF 0x3F000000u                    /* 0.5, of which the last bit is worth 2^-24 */
#define EXPONENT_SHIFT 0x38000000u          /* the biases' difference, 112 */

uint32_t values_bytes(values_precision_t precision)
{
    return precision == VALUES_FLOAT32 ? 4u : precision == VALUES_FLOAT16 ? 2u : 1u;
}

static float float_at(const uint8_t *floats, uint32_t index)
{
    float value;
    memcpy(&value, floats + 4u * index, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- float16 ---- */

/* To the nearest, ties to even. Below 2^-14 the last bit is worth 2^-24, as that of 0.5 and what is added to it. */
static uint16_t to_float16(float value)
{
    const uint32_t sign = bits_of(value) >> 16 & 0x8000u;
    const uint32_t magnitude = bits_of(value) & MAGNITUDE;
    if (magnitude >= FLOAT16_LARGEST) {
        return (uint16_t)(sign | (FLOAT16_LARGEST - EXPONENT_SHIFT) >> 13);
    }
    if (magnitude < FLOAT16_SMALLEST_NORMAL) {
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - HALF));
    }
    return (uint16_t)(sign | (magnitude + 0xFFFu + (magnitude >> 13 & 1u) - EXPONENT_SHIFT) >> 13);
}

static void round_to_float16(uint8_t *stored, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint16_t rounded = to_float16(float_at(stored, i));
        memcpy(stored + 2u * i, &rounded, sizeof rounded);
    }
}

/* ---- int8 ---- */

static float largest_magnitude(const uint8_t *floats, uint32_t count)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t magnitude = bits_of(float_at(floats, i)) & MAGNITUDE; /* compares as the float does */
        largest = magnitude > largest ? magnitude : largest;
    }
    return float_of(largest);
}

/* The smallest float of which 127 reach `largest`, within the format's range. The product is exact. */
static float scale_of(float largest)
{
    float scale = (float)((double)largest / (double)STEPS);
    if (bits_of(largest) == 0) {
        return 1.0f;
    }
    if ((double)scale * (double)STEPS < (double)largest) {
        scale = float_of(bits_of(scale) + 1u);
    }
    return scale < MAX_SCALE ? scale : MAX_SCALE;
}

/* |value| is at most 128 scales, because a float is below 2^128. */
static int8_t to_step(float value, float scale, double draw)
{
    const double exact = (double)value / (double)scale;
    int32_t step = (int32_t)exact;
    step -= (double)step > exact ? 1 : 0;
    step += draw < exact - (double)step ? 1 : 0;
    return (int8_t)(step > STEPS ? STEPS : step < -STEPS ? -STEPS : step);
}

static float round_to_int8(uint8_t *stored, uint32_t count, pcg64_t *noise)
{
    const float scale = scale_of(largest_magnitude(stored, count));
    for (uint32_t i = 0; i < count; i++) {
        const int8_t rounded = to_step(float_at(stored, i), scale, pcg64_uniform(noise));
        memcpy(stored + i, &rounded, sizeof rounded);
    }
    return scale;
}

float values_round(uint8_t *stored, uint32_t count, values_precision_t precision, pcg64_t *noise)
{
    if (precision == VALUES_INT8) {
        return round_to_int8(stored, count, noise);
    }
    if (precision == VALUES_FLOAT16) {
        round_to_float16(stored, count);
    }
    return 1.0f;
}
