/* For ctypes: an update in one piece, asked for in stretches of at most `step` bytes. */
#include "update.h"

#include <string.h>

uint32_t call_encode(float *change, uint32_t count, uint32_t entries, uint32_t precision, pcg64_t *noise,
                     uint8_t *bitmap, uint8_t *output, uint32_t step);

uint32_t call_encode(float *change, uint32_t count, uint32_t entries, uint32_t precision, pcg64_t *noise,
                     uint8_t *bitmap, uint8_t *output, uint32_t step)
{
    update_t update;
    uint32_t at = 0;
    memset(&update, 0xA5, sizeof update);
    update_encode(&update, change, count, entries, (values_precision_t)precision, noise, bitmap);
    while (at < update.bytes) {
        const uint32_t left = update.bytes - at;
        const stretch_t stretch = update_stretch(&update, at, left < step ? left : step);
        memcpy(output + at, stretch.bytes, stretch.count);
        at += stretch.count;
    }
    return at;
}
