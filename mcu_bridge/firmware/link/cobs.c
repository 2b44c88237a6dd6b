#include "cobs.h"

#include <string.h>

#define LONGEST_GROUP 255u /* the code of 254 bytes without a zero after them */

static void open_group(cobs_writer_t *writer)
{
    writer->code = writer->count++;
}

static void close_group(const cobs_writer_t *writer)
{
    writer->to[writer->code] = (uint8_t)(writer->count - writer->code);
}

void cobs_start(cobs_writer_t *writer, uint8_t *to)
{
    writer->to = to;
    writer->count = 0;
    open_group(writer);
}

void cobs_put(cobs_writer_t *writer, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* Only when more follows: a full group at the very end needs no empty one after it. */
        if (writer->count - writer->code == LONGEST_GROUP) {
            close_group(writer);
            open_group(writer);
        }
        if (bytes[i] == 0) {
            close_group(writer);
            open_group(writer);
        } else {
            writer->to[writer->count++] = bytes[i];
        }
    }
}

size_t cobs_end(cobs_writer_t *writer)
{
    close_group(writer);
    return writer->count;
}

bool cobs_decode(uint8_t *bytes, size_t *count)
{
    const size_t end = *count;
    size_t from = 0;
    size_t to = 0;
    while (from < end) {
        const size_t code = bytes[from++];
        if (code == 0 || code - 1 > end - from) {
            return false;
        }
        memmove(bytes + to, bytes + from, code - 1);
        from += code - 1;
        to += code - 1;
        if (code != LONGEST_GROUP && from < end) {
            bytes[to++] = 0;
        }
    }
    *count = to;
    return true;
}
