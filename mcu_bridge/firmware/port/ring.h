/* A ring of bytes between one producer and one consumer, of which one may be an interrupt: neither ever locks.
 *
 * `put` and `taken` count bytes since the start and wrap; only the producer writes `put`, only the consumer `taken`.
 * The bytes are volatile, so a compiler keeps the order in which they and the counts are written; on one core that is
 * enough. */
#ifndef TINYFLEET_RING_H
#define TINYFLEET_RING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    volatile uint8_t *bytes;
    uint32_t size; /* a power of two */
    volatile uint32_t put;
    volatile uint32_t taken;
} ring_t;

static inline uint32_t ring_used(const ring_t *ring)
{
    return ring->put - ring->taken;
}

static inline uint32_t ring_room(const ring_t *ring)
{
    return ring->size - ring_used(ring);
}

/* For the producer; false when it is full. */
static inline bool ring_put(ring_t *ring, uint8_t byte)
{
    if (ring_room(ring) == 0) {
        return false;
    }
    ring->bytes[ring->put & (ring->size - 1u)] = byte;
    ring->put++;
    return true;
}

/* For the consumer; false when it is empty. */
static inline bool ring_take(ring_t *ring, uint8_t *byte)
{
    if (ring_used(ring) == 0) {
        return false;
    }
    *byte = ring->bytes[ring->taken & (ring->size - 1u)];
    ring->taken++;
    return true;
}

#endif
