#include <string.h>

#include "cobs.h"
#include "link.h"

uint16_t link_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

uint32_t link_u32(const uint8_t *bytes)
{
    return (uint32_t)link_u16(bytes) | (uint32_t)link_u16(bytes + 2) << 16;
}

void link_put_u16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

void link_put_u32(uint8_t *bytes, uint32_t value)
{
    link_put_u16(bytes, (uint16_t)value);
    link_put_u16(bytes + 2, (uint16_t)(value >> 16));
}

/* The checks that need the decoded bytes, in the order that the format states. */
static link_event_t check(const uint8_t *bytes, size_t count, link_frame_t *frame)
{
    if (count < LINK_MIN_FRAME) {
        return LINK_MALFORMED;
    }
    if (link_crc32(0, bytes, count - LINK_CRC) != link_u32(bytes + count - LINK_CRC)) {
        return LINK_CORRUPT;
    }
    frame->version = bytes[0];
    frame->type = bytes[1];
    frame->sequence = link_u16(bytes + 2);
    frame->length = link_u16(bytes + 4);
    frame->payload = bytes + LINK_HEADER;
    if (frame->version != LINK_VERSION) {
        return LINK_WRONG_VERSION;
    }
    const bool whole = frame->length == count - LINK_MIN_FRAME && frame->length <= LINK_MAX_PAYLOAD;
    return whole ? LINK_FRAME : LINK_MALFORMED;
}

static link_event_t delimited(uint8_t *bytes, size_t count, link_frame_t *frame)
{
    if (count == 0) {
        return LINK_NOTHING;
    }
    if (count > LINK_MAX_ENCODED) {
        return LINK_OVERLONG;
    }
    return cobs_decode(bytes, &count) ? check(bytes, count, frame) : LINK_MALFORMED;
}

void link_reader_start(link_reader_t *reader)
{
    reader->count = 0;
}

link_event_t link_reader_take(link_reader_t *reader, uint8_t byte, link_frame_t *frame)
{
    if (byte == 0) {
        const size_t count = reader->count;
        reader->count = 0;
        return delimited(reader->bytes, count, frame);
    }
    if (reader->count < LINK_MAX_ENCODED) {
        reader->bytes[reader->count++] = byte;
    } else {
        reader->count = LINK_MAX_ENCODED + 1;
    }
    return LINK_NOTHING;
}

size_t link_encode(const link_frame_t *frame, uint8_t wire[LINK_MAX_WIRE])
{
    uint8_t header[LINK_HEADER] = {LINK_VERSION, frame->type};
    uint8_t crc[LINK_CRC];
    cobs_writer_t writer;
    if (frame->length > LINK_MAX_PAYLOAD) {
        return 0;
    }
    link_put_u16(header + 2, frame->sequence);
    link_put_u16(header + 4, frame->length);
    link_put_u32(crc, link_crc32(link_crc32(0, header, LINK_HEADER), frame->payload, frame->length));
    cobs_start(&writer, wire);
    cobs_put(&writer, header, LINK_HEADER);
    cobs_put(&writer, frame->payload, frame->length);
    cobs_put(&writer, crc, LINK_CRC);
    const size_t count = cobs_end(&writer);
    wire[count] = 0;
    return count + 1;
}
