/* The random numbers of an update's rounding: PCG64 (XSL-RR, 128 bits of state), as NumPy's.
 *
 * Whoever seeds it sends the state and the increment: the hashing of seeds stays on the host. 128 bits are two numbers,
 * for a Cortex-M4 has no larger ones. */
#ifndef TINYFLEET_PCG64_H
#define TINYFLEET_PCG64_H

#include <stdint.h>

typedef struct {
    uint64_t state_low;
    uint64_t state_high;
    uint64_t increment_low;
    uint64_t increment_high;
} pcg64_t;

/* The next draw from [0, 1), a multiple of 2^-53: tinyfleet/randomness.py's `uniform`. */
double pcg64_uniform(pcg64_t *stream);

#endif
