/* Consistent Overhead Byte Stuffing: bytes without zeros, so that a zero can end them (Cheshire and Baker, 1999).
 *
 * Each group is a code byte n and n - 1 bytes that are not zero; a zero follows them unless n is 255 or the group is
 * the last. Private to link/. */
#ifndef TINYFLEET_LINK_COBS_H
#define TINYFLEET_LINK_COBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes encoded bytes one after the other: n bytes take at most n + n / 254 + 1. */
typedef struct {
    uint8_t *to;
    size_t count; /* written, with the open group's code */
    size_t code;  /* where that code belongs */
} cobs_writer_t;

void cobs_start(cobs_writer_t *writer, uint8_t *to);
void cobs_put(cobs_writer_t *writer, const uint8_t *bytes, size_t count);

/* Returns how many bytes have been written. The delimiter is the caller's. */
size_t cobs_end(cobs_writer_t *writer);

/* Decode *count bytes, none of them zero, where they are; *count becomes that of the decoded bytes, which are fewer.
 * Returns false when a group is longer than what is there. */
bool cobs_decode(uint8_t *bytes, size_t *count);

#endif
