/* A target for libFuzzer: an update of any change is one that a reader takes, and stays in its memory.
 *
 * The input is the size of a change, what to send of it, the noise, and its entries. The memory is exactly the
 * firmware's, so that a sanitizer sees the first byte beyond. The reader below is docs/formats/update.md's, entry by
 * entry. */
#include "update.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

enum { MAX_COUNT = 70000, ALL = 0, BITMAP = 1, GAPS = 2, INDICES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} input_t;

static void take(input_t *input, void *to, size_t count)
{
    const size_t left = (size_t)(input->end - input->at);
    const size_t taken = count < left ? count : left;
    memset(to, 0, count);
    memcpy(to, input->at, taken);
    input->at += taken;
}

static uint32_t number(input_t *input, uint32_t low, uint32_t high)
{
    uint32_t drawn;
    take(input, &drawn, sizeof drawn);
    return low + drawn % (high - low + 1u);
}

/* Any finite number: an exponent of all ones loses its last bit. */
static float finite_float(uint32_t bits)
{
    float value;
    bits = (bits & 0x7F800000u) == 0x7F800000u ? bits & ~0x00800000u : bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Runs of entries from the input; those between them are 0. */
static void fill(input_t *input, float *change, uint32_t count)
{
    uint32_t at = 0;
    memset(change, 0, count * sizeof *change);
    while (input->at < input->end && at < count) {
        uint32_t bits;
        uint8_t skipped;
        take(input, &bits, sizeof bits);
        take(input, &skipped, sizeof skipped);
        change[at] = finite_float(bits);
        at += 1u + (skipped < 0xC0u ? skipped % 8u : skipped * 97u);
    }
}

static uint32_t u32(const uint8_t *at, uint32_t bytes)
{
    uint32_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

/* The position after `last` (UINT32_MAX: before all), and how many bytes of `at` it takes. */
static uint32_t next_position(uint32_t form, const uint8_t *at, uint32_t last, uint32_t count, uint32_t *bytes)
{
    uint32_t gap = 0;
    *bytes = 0;
    if (form == INDICES) {
        *bytes = count <= 65536u ? 2u : 4u;
        return u32(at, *bytes);
    }
    if (form == GAPS) {
        do {
            gap |= (uint32_t)(at[*bytes] & 0x7Fu) << 7u * *bytes;
        } while ((at[(*bytes)++] & 0x80u) != 0);
        return last + 1u + gap;
    }
    for (last++; form == BITMAP && ((uint32_t)at[last / 8u] >> last % 8u & 1u) == 0; last++) {
    }
    return last;
}

static bool is_nothing(const uint8_t *value, uint32_t bytes)
{
    return (u32(value, bytes) & (0x7FFFFFFFu >> (32u - 8u * bytes))) == 0;
}

static void check(const uint8_t *update, uint32_t size, uint32_t count, uint32_t entries, uint32_t precision)
{
    const uint32_t form = update[0];
    const uint32_t kept = u32(update + 4, 4);
    const uint32_t value_bytes = precision == 0 ? 4u : precision == 1 ? 2u : 1u;
    const uint8_t *positions = update + 8;
    const uint8_t *values = update + size - kept * value_bytes;
    uint32_t last = UINT32_MAX;
    uint32_t sent = 0;
    REQUIRE(form <= INDICES && update[1] == precision && update[2] == 0 && update[3] == 0);
    REQUIRE(size <= 4u * count + 12u);
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t bytes;
        const uint32_t next = next_position(form, positions, last, count, &bytes);
        REQUIRE(next < count && (last == UINT32_MAX || next > last));
        REQUIRE(form == ALL || !is_nothing(values + i * value_bytes, value_bytes));
        REQUIRE(precision != 2 || values[i] != 0x80u);
        sent += is_nothing(values + i * value_bytes, value_bytes) ? 0u : 1u;
        positions += bytes;
        last = next;
    }
    REQUIRE(form != ALL || kept == count);
    REQUIRE(sent <= entries);
    REQUIRE(positions + (form == BITMAP ? (count + 7u) / 8u : 0u) + (precision == 2 ? 4u : 0u) == values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input_t input = {data, data + size};
    const uint32_t count = number(&input, 1, number(&input, 0, 3) > 0 ? 300 : MAX_COUNT);
    const uint32_t entries = number(&input, 1, count);
    const uint32_t precision = number(&input, 0, 2);
    float *change = malloc(count * sizeof *change);
    uint8_t *bitmap = malloc((count + 7u) / 8u);
    update_t update;
    pcg64_t noise;
    REQUIRE(change != NULL && bitmap != NULL);
    take(&input, &noise, sizeof noise);
    fill(&input, change, count);
    update_encode(&update, change, count, entries, (values_precision_t)precision, &noise, bitmap);
    uint8_t *whole = malloc(update.bytes);
    REQUIRE(whole != NULL);
    for (uint32_t at = 0; at < update.bytes;) {
        const stretch_t stretch = update_stretch(&update, at, update.bytes - at);
        memcpy(whole + at, stretch.bytes, stretch.count);
        at += stretch.count;
    }
    check(whole, update.bytes, count, entries, precision);
    free(whole);
    free(bitmap);
    free(change);
    return 0;
}
