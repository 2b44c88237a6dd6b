/* The parameters that training changed most, found where they lie. */
#ifndef TINYFLEET_SELECTION_H
#define TINYFLEET_SELECTION_H

#include <stdint.h>

/* Choose the `count` largest |trained - start|, ties to the lower index; all of both must be finite.
 *
 * parameters: of trained and start, at least 1; count: 1 to parameters. Afterwards bit i % 8 of bitmap[i / 8] says
 * whether parameter i was chosen, the rest of its last byte being 0, and start[0..count) are the chosen differences
 * trained - start (float, may be infinite) by rising index; what follows in `start` is of no use.
 * O(parameters), ten passes; no memory but the arguments'. */
void selection_choose(const float *trained, float *start, uint32_t parameters, uint32_t count, uint8_t *bitmap);

#endif
