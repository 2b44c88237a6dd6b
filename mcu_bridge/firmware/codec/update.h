/* The selected encoding of an update, written: docs/formats/update.md. The same bytes as tinyfleet/codec/selected.py.
 *
 * It is made where the change lies: the values over the change, the positions in the bitmap or behind the values, so that
 * no memory of the update's size is needed beyond those two. What it consists of lies in several places; whoever sends
 * it asks for it stretch by stretch, from any offset. */
#ifndef TINYFLEET_UPDATE_H
#define TINYFLEET_UPDATE_H

#include "pcg64.h"
#include "values.h"

#include <stdint.h>

enum { UPDATE_HEAD, UPDATE_POSITIONS, UPDATE_SCALE, UPDATE_VALUES, UPDATE_PARTS };

/* Bytes that lie one after the other. */
typedef struct {
    const uint8_t *bytes;
    uint32_t count;
} stretch_t;

/* An update, or none (bytes is 0). It has pointers into itself: it must stay where it is. */
typedef struct {
    uint32_t bytes;
    stretch_t parts[UPDATE_PARTS];
    uint8_t head[8];
    uint8_t scale[4];
} update_t;

/* Encode the `entries` largest of change[count].
 *
 * change: finite; count: 1 to LEARNER_MAX_PARAMETERS; entries: 1 to count; noise: for int8, else not looked at; bitmap:
 * (count + 7) / 8 bytes. `change` and `bitmap` are the update's from then on.
 * O(count), some 12 passes: on a Cortex-M4 140 instructions for each of count, and for int8 1,000 for each of entries. */
void update_encode(update_t *update, float *change, uint32_t count, uint32_t entries, values_precision_t precision,
                   pcg64_t *noise, uint8_t *bitmap);

/* The longest stretch that begins at `offset`, at most `count` bytes; offset + count is at most `bytes`, count not 0. */
stretch_t update_stretch(const update_t *update, uint32_t offset, uint32_t count);

#endif
