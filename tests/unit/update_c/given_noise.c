/* In place of pcg64.c: the draws that a golden vector gives, at state_low, increment_low of them left. */
#include "pcg64.h"

#include <string.h>

double pcg64_uniform(pcg64_t *stream)
{
    double draw = 2.0; /* of no use, once there are no more: nothing is below it */
    if (stream->increment_low > 0) {
        memcpy(&draw, (const void *)(uintptr_t)stream->state_low, sizeof draw);
        stream->state_low += sizeof draw;
        stream->increment_low--;
    } else {
        stream->increment_high++;
    }
    return draw;
}
