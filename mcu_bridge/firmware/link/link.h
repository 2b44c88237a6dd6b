/* The serial link's frames: turns bytes of a line into checked frames and frames into bytes.
 *
 * docs/formats/link.md says what is on the wire. Nothing here allocates, keeps hidden state, recurses or calls a
 * library beyond memcpy, memmove and memset; the same files run on a Cortex-M4 and on a host.
 *
 * How to use it:
 *
 *     link_reader_t reader;
 *     link_frame_t frame;
 *     link_reader_start(&reader);
 *     event = link_reader_take(&reader, byte, &frame);    for each byte that arrives
 *     count = link_encode(&frame, wire);                  the bytes to send
 *
 * Ownership: the caller owns the reader, 270 bytes, and the buffers. A frame that the reader gives out points into the
 * reader and is valid until the reader takes its next byte. Its payload has no alignment: take numbers out of it
 * with link_u16 and link_u32, which copy.
 *
 * Trust: bytes may be anything. A frame is given out only when its checksum, its version and its length are right.
 *
 * Cost: a store and a compare for each byte but the last of a frame; there, about 20 instructions for each byte of the
 * frame. A flood without delimiters costs no more than any other bytes. Stack: below 100 bytes.
 */
#ifndef TINYFLEET_LINK_H
#define TINYFLEET_LINK_H

#include <stddef.h>
#include <stdint.h>

/* MUST match mcu_bridge/link; tests/vectors/link.json checks both. */
#define LINK_VERSION 1u
#define LINK_HEADER 6u                                            /* version, type, sequence, length */
#define LINK_CRC 4u
#define LINK_MIN_FRAME (LINK_HEADER + LINK_CRC)
#define LINK_MAX_PAYLOAD 256u
#define LINK_MAX_FRAME (LINK_MIN_FRAME + LINK_MAX_PAYLOAD)        /* 266 */
#define LINK_MAX_ENCODED (LINK_MAX_FRAME + 2u)                    /* 268: COBS adds one byte for each 254 begun */
#define LINK_MAX_WIRE (LINK_MAX_ENCODED + 1u)                     /* 269: and the delimiter */
#define LINK_BLOCK 252u                                           /* bytes of a transfer in one DATA frame */

/* Types of frames. The numbers are part of the format: never reuse one. */
enum {
    LINK_FIRST_COMMAND = 0x01,
    LINK_IDENTIFY = 0x01, /* the one command that the session itself knows */
    LINK_LAST_COMMAND = 0x3F,
    LINK_DATA = 0x40,
    LINK_ACK = 0x41,
    LINK_POLL = 0x42,
    LINK_RESPONSE = 0x80, /* or-ed to the command's type; 0xC2 is POLL's refusal */
    LINK_WRONG_VERSION_TYPE = 0xFF
};

/* Flags of an ACK. */
enum {
    LINK_AGAIN = 1, /* go back to `next` */
    LINK_ENDED = 2  /* no more of this transfer is wanted */
};

/* A frame. The sender of one sets all but `version`. */
typedef struct {
    uint8_t version;
    uint8_t type;
    uint16_t sequence;
    uint16_t length; /* of the payload, 0..LINK_MAX_PAYLOAD */
    const uint8_t *payload;
} link_frame_t;

/* What a byte brought about. All but LINK_NOTHING come with a delimiter, one for each that ends any bytes. */
typedef enum {
    LINK_NOTHING,
    LINK_FRAME,         /* a good frame */
    LINK_WRONG_VERSION, /* intact, but not of our version: *frame is set, its payload means nothing to us */
    LINK_OVERLONG,      /* more than LINK_MAX_ENCODED bytes before the delimiter */
    LINK_MALFORMED,     /* not COBS, too short, or the length field is not what is there */
    LINK_CORRUPT        /* the checksum is wrong */
} link_event_t;

/* Puts frames together. Private but for its size. */
typedef struct {
    uint16_t count; /* bytes since the last delimiter; LINK_MAX_WIRE stands for any more than fit */
    uint8_t bytes[LINK_MAX_ENCODED];
} link_reader_t;

/* The CRC-32 of zlib (polynomial 0xEDB88320 reflected, start and final xor 0xFFFFFFFF) of `count` more bytes, after
 * those that gave `crc`; start with 0. About 10 instructions a byte on a Cortex-M4. */
uint32_t link_crc32(uint32_t crc, const void *bytes, size_t count);

/* Forget all bytes. Must come before the first take. */
void link_reader_start(link_reader_t *reader);

/* Take the line's next byte. *frame is set for LINK_FRAME and LINK_WRONG_VERSION only, until the next take. */
link_event_t link_reader_take(link_reader_t *reader, uint8_t byte, link_frame_t *frame);

/* Write the frame as it goes on the wire, delimiter included, with our version whatever frame->version says. About 25
 * instructions a byte on a Cortex-M4. Returns the count of bytes, 12..LINK_MAX_WIRE, or 0 when the payload is longer
 * than LINK_MAX_PAYLOAD. The payload may not overlap the wire. */
size_t link_encode(const link_frame_t *frame, uint8_t wire[LINK_MAX_WIRE]);

/* Little-endian numbers at any address. */
uint16_t link_u16(const uint8_t *bytes);
uint32_t link_u32(const uint8_t *bytes);
void link_put_u16(uint8_t *bytes, uint16_t value);
void link_put_u32(uint8_t *bytes, uint32_t value);

#endif
