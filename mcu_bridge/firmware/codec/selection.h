/* The entries of a change that are worth sending, found where they lie: docs/formats/update.md, "Writing". */
#ifndef TINYFLEET_SELECTION_H
#define TINYFLEET_SELECTION_H

#include <stdint.h>

/* Choose the `entries` largest magnitudes of change[count], ties to the lower index, without those that are 0 or -0.
 *
 * count: at least 1; entries: 1 to count; all of change is finite. Returns how many were chosen. Bit i % 8 of
 * bitmap[i / 8] then says whether entry i was, the rest of its last byte being 0; and the chosen ones lie at the beginning
 * of `change`, by rising index; what follows there is of no use.
 * O(count), nine passes; no memory but the arguments'. */
uint32_t selection_choose(float *change, uint32_t count, uint32_t entries, uint8_t *bitmap);

#endif
