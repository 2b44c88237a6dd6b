/* Time in nanoseconds, on a clock that nobody sets. */
#define _DEFAULT_SOURCE
#include "../port.h"
#include "host.h"

#include <time.h>

#define NANOSECONDS 1000000000u

const uint32_t port_ticks_hz = NANOSECONDS;
const uint32_t port_clock_hz = NANOSECONDS;

static uint64_t start;

static uint64_t now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NANOSECONDS + (uint64_t)time.tv_nsec;
}

void host_start_clock(void)
{
    start = now();
}

uint64_t port_ticks64(void)
{
    return now() - start;
}

uint32_t port_ticks(void)
{
    return (uint32_t)port_ticks64() & PORT_TICKS_MASK;
}

uint32_t port_milliseconds(void)
{
    return (uint32_t)(port_ticks64() / 1000000u);
}
