/* Refer to selection.h. Magnitudes compare as floats do when their bits are read as numbers, so the smallest chosen
 * one is found digit by digit, from the highest: 8 digits of 4 bits, each with a count of what begins like it. */
#include "selection.h"

#include <string.h>

#define DIGIT_BITS 4u
#define DIGITS 16u

/* The smallest magnitude that is chosen, and how many of exactly that magnitude are. */
typedef struct {
    uint32_t magnitude;
    uint32_t ties;
} threshold_t;

static uint32_t magnitude_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFFu;
}

/* How many values have each digit at `shift`, among those whose higher digits are those of `prefix`. */
static void count_digits(const float *values, uint32_t count, uint32_t prefix, uint32_t shift, uint32_t found[DIGITS])
{
    memset(found, 0, DIGITS * sizeof found[0]);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t differs = (magnitude_of(values[i]) ^ prefix) >> shift;
        if (differs < DIGITS) { /* the prefix's own digit is still 0 here */
            found[differs]++;
        }
    }
}

static threshold_t find_threshold(const float *values, uint32_t count, uint32_t chosen)
{
    threshold_t threshold = {0, chosen};
    for (uint32_t above = 32; above > 0; above -= DIGIT_BITS) {
        const uint32_t shift = above - DIGIT_BITS;
        uint32_t found[DIGITS];
        uint32_t digit = DIGITS - 1u;
        count_digits(values, count, threshold.magnitude, shift, found);
        while (threshold.ties > found[digit] && digit > 0) {
            threshold.ties -= found[digit];
            digit--;
        }
        threshold.magnitude |= digit << shift;
    }
    return threshold;
}

static uint32_t keep_chosen(float *values, uint32_t count, threshold_t threshold, uint8_t *bitmap)
{
    uint32_t kept = 0;
    memset(bitmap, 0, (count + 7u) / 8u);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t magnitude = magnitude_of(values[i]);
        if (magnitude == 0 || magnitude < threshold.magnitude ||
            (magnitude == threshold.magnitude && threshold.ties == 0)) {
            continue;
        }
        threshold.ties -= magnitude == threshold.magnitude ? 1u : 0u;
        bitmap[i / 8u] = (uint8_t)(bitmap[i / 8u] | 1u << i % 8u);
        values[kept++] = values[i];
    }
    return kept;
}

uint32_t selection_choose(float *change, uint32_t count, uint32_t entries, uint8_t *bitmap)
{
    return keep_chosen(change, count, find_threshold(change, count, entries), bitmap);
}
