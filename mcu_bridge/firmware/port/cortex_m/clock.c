/* Time in 64 bits, from a counter of 24 bits and an interrupt each time that it wraps. */
#include "../port.h"
#include "board.h"
#include "interrupts.h"

static volatile uint32_t wraps;

void clock_wrapped(void)
{
    wraps++;
    wait_is_over();
}

/* At the very last tick of a period its end may be pending or not, as the hardware likes: let that tick go by. */
static uint32_t ticks_off_the_end(void)
{
    uint32_t ticks;
    do {
        ticks = port_ticks();
    } while (ticks == PORT_TICKS_MASK);
    return ticks;
}

uint64_t port_ticks64(void)
{
    const uint32_t before = hold_interrupts();
    uint32_t low = ticks_off_the_end();
    uint64_t high = wraps;
    if (board_wrap_is_pending()) {
        low = ticks_off_the_end();
        high++;
    }
    release_interrupts(before);
    return high * (PORT_TICKS_MASK + 1u) + low;
}

uint32_t port_milliseconds(void)
{
    return (uint32_t)(port_ticks64() / (port_ticks_hz / 1000u));
}
