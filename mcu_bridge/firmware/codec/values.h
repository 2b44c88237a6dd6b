/* An update's values, rounded where they lie: docs/formats/update.md, "Values" and step 3 of "Writing". */
#ifndef TINYFLEET_VALUES_H
#define TINYFLEET_VALUES_H

#include "pcg64.h"

#include <stdint.h>

/* Numbers are part of the format. MUST match tinyfleet/codec/values.py. */
typedef enum { VALUES_FLOAT32 = 0, VALUES_FLOAT16 = 1, VALUES_INT8 = 2 } values_precision_t;

/* Bytes of one stored value: 4, 2 or 1. */
uint32_t values_bytes(values_precision_t precision);

/* Round `count` finite floats, which lie in `stored` as they are in memory, to that many stored values at its beginning.
 *
 * int8 takes one draw of `noise` a value, in order; the other precisions do not look at it. Returns the scale, 1 but
 * for int8. A value may become 0. O(count); int8 draws and divides in double, 1,000 instructions a value on a Cortex-M4. */
float values_round(uint8_t *stored, uint32_t count, values_precision_t precision, pcg64_t *noise);

#endif
