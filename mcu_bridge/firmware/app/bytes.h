/* Numbers in messages: little-endian, at any address. */
#ifndef TINYFLEET_BYTES_H
#define TINYFLEET_BYTES_H

#include <stdint.h>
#include <string.h>

/* Samples, parameters and the layer table are used as they came. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the device protocol needs a little-endian processor"
#endif

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline float get_f32(const uint8_t *at)
{
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void put_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void put_u64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void put_f32(uint8_t *at, float value)
{
    memcpy(at, &value, sizeof value);
}

static inline void put_f64(uint8_t *at, double value)
{
    memcpy(at, &value, sizeof value);
}

#endif
