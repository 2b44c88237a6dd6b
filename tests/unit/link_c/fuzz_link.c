/* A target for libFuzzer: a device on a line that does what the input says.
 *
 * The input is a list of actions: raw bytes, frames with a right checksum that are what the device expects or nearly
 * so, and a line that fills up. The application and the line assert the promises of session.h; what is sent must be a
 * good frame that a reader gives back as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "session.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} input_t;

typedef struct {
    link_session_t session;
    link_reader_t reader;
    link_application_t application;
    link_line_t line;
    size_t room;
    uint16_t sequence; /* of the last command that the host sent */
    uint32_t total;    /* of the transfer */
    uint32_t taken;    /* bytes of it that have been consumed */
    bool in;           /* it is one in, open, and has not ended */
    bool ended;
    bool inside; /* of a callback */
} device_t;

static uint8_t next_byte(input_t *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static void open_what_is_asked(device_t *device, const uint8_t *payload, size_t length)
{
    const uint32_t total = length > 3 ? link_u16(payload + 1) : 0;
    const uint32_t next = length > 3 ? payload[3] * LINK_BLOCK : 0;
    const uint8_t direction = length > 0 ? payload[0] % 4 : 3;
    device->in = direction == 0;
    if (direction < 3) {
        device->total = total;
    }
    switch (direction) {
    case 0:
        device->taken = next < total ? next : total;
        device->ended = false;
        link_session_open_in(&device->session, total, device->taken);
        break;
    case 1:
        link_session_open_out(&device->session, total);
        break;
    case 2:
        link_session_open_count(&device->session, total);
        break;
    default:
        break;
    }
}

static void execute(void *context, uint8_t command, const uint8_t *payload, size_t length, uint8_t *response,
                    size_t *response_length)
{
    device_t *device = context;
    REQUIRE(!device->inside);
    REQUIRE(command >= LINK_FIRST_COMMAND && command <= LINK_LAST_COMMAND && length <= LINK_MAX_PAYLOAD);
    REQUIRE(*response_length == LINK_MIN_RESPONSE && response[0] == 0 && response[LINK_MAX_RESPONSE - 1] == 0);
    device->inside = true;
    open_what_is_asked(device, payload, length);
    memset(response, length > 4 ? payload[4] % 2 : 0, LINK_MAX_RESPONSE);
    *response_length = LINK_MIN_RESPONSE + (length > 5 ? payload[5] % (LINK_MAX_RESPONSE - LINK_MIN_RESPONSE + 1) : 0);
    device->in = device->in && response[0] == 0;
    device->inside = false;
}

static bool consume(void *context, uint32_t offset, const uint8_t *bytes, size_t count)
{
    device_t *device = context;
    REQUIRE(!device->inside && device->in && !device->ended);
    REQUIRE(offset == device->taken && count >= 1 && count <= LINK_BLOCK && count <= device->total - offset);
    device->taken += (uint32_t)count;
    device->ended = bytes[count - 1] == 0xEE;
    return !device->ended;
}

static void produce(void *context, uint32_t offset, uint8_t *bytes, size_t count)
{
    device_t *device = context;
    REQUIRE(!device->inside && !device->in);
    REQUIRE(offset % LINK_BLOCK == 0 && count >= 1 && count <= LINK_BLOCK && count <= device->total - offset);
    memset(bytes, (int)(offset / LINK_BLOCK), count);
}

static size_t room(void *context)
{
    return ((device_t *)context)->room;
}

/* What is sent must be one good frame, and encode to the same bytes. */
static void send(void *context, const uint8_t *bytes, size_t count)
{
    device_t *device = context;
    link_reader_t reader;
    link_frame_t frame;
    uint8_t wire[LINK_MAX_WIRE];
    REQUIRE(count >= LINK_MIN_FRAME + 2 && count <= LINK_MAX_WIRE && count <= device->room);
    device->room -= count;
    link_reader_start(&reader);
    for (size_t i = 0; i + 1 < count; i++) {
        REQUIRE(link_reader_take(&reader, bytes[i], &frame) == LINK_NOTHING);
    }
    REQUIRE(link_reader_take(&reader, bytes[count - 1], &frame) == LINK_FRAME);
    REQUIRE(link_encode(&frame, wire) == count && memcmp(wire, bytes, count) == 0);
}

static void receive(device_t *device, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        link_frame_t frame;
        const link_event_t event = link_reader_take(&device->reader, bytes[i], &frame);
        if (event == LINK_FRAME) {
            REQUIRE(frame.version == LINK_VERSION && frame.length <= LINK_MAX_PAYLOAD);
        }
        link_session_take(&device->session, event, &frame);
    }
}

static void receive_frame(device_t *device, uint8_t type, uint16_t sequence, const uint8_t *payload, size_t length)
{
    const link_frame_t frame = {LINK_VERSION, type, sequence, (uint16_t)length, payload};
    uint8_t wire[LINK_MAX_WIRE];
    receive(device, wire, link_encode(&frame, wire));
}

static size_t some_payload(input_t *input, uint8_t *payload, size_t most)
{
    const size_t length = next_byte(input) % (most + 1);
    for (size_t i = 0; i < length; i++) {
        payload[i] = next_byte(input);
    }
    return length;
}

static void raw_bytes(device_t *device, input_t *input)
{
    uint8_t bytes[64];
    receive(device, bytes, some_payload(input, bytes, sizeof bytes));
}

static void command(device_t *device, input_t *input)
{
    uint8_t payload[8];
    const uint8_t kind = next_byte(input);
    const size_t length = some_payload(input, payload, sizeof payload);
    device->sequence = (uint16_t)(device->sequence + (kind & 3u) - (kind & 4u ? 1u : 0u));
    receive_frame(device, kind >> 3 == 0 ? LINK_IDENTIFY : kind >> 2, device->sequence, payload, length);
}

/* The block at `next`, or near it, with about as many bytes as it has. */
static void block(device_t *device, input_t *input)
{
    uint8_t payload[LINK_MAX_PAYLOAD];
    const uint8_t kind = next_byte(input);
    const uint32_t near = (kind & 3u) * LINK_BLOCK - (kind & 4u ? LINK_BLOCK : 0);
    const uint32_t offset = link_session_next(&device->session) + near;
    const uint32_t left = device->total - offset;
    const uint32_t count = (left < LINK_BLOCK ? left : LINK_BLOCK) - (kind & 8u ? 1u : 0u);
    memset(payload, next_byte(input), sizeof payload);
    link_put_u32(payload, offset);
    receive_frame(device, LINK_DATA, (uint16_t)(device->sequence - (kind >> 7)), payload, (4 + count) % 257);
}

static void acknowledge(device_t *device, input_t *input)
{
    uint8_t payload[9];
    const uint8_t kind = next_byte(input);
    const uint32_t next = link_session_next(&device->session) + (kind & 3u) * LINK_BLOCK;
    link_put_u32(payload, kind & 4u ? device->total : next);
    link_put_u32(payload + 4, next + next_byte(input) * LINK_BLOCK);
    payload[8] = kind >> 4;
    receive_frame(device, LINK_ACK, device->sequence, payload, kind & 8u ? 8 : 9);
}

static void act(device_t *device, input_t *input)
{
    switch (next_byte(input) % 8) {
    case 0:
        raw_bytes(device, input);
        break;
    case 1:
    case 2:
        command(device, input);
        break;
    case 3:
        block(device, input);
        break;
    case 4:
        acknowledge(device, input);
        break;
    case 5:
        receive_frame(device, LINK_POLL, (uint16_t)(device->sequence - next_byte(input) % 2), NULL, 0);
        break;
    case 6:
        device->room = (size_t)next_byte(input) * 8;
        link_session_pump(&device->session);
        break;
    default:
        link_session_advance(&device->session, next_byte(input));
        if (next_byte(input) == 0xEE) {
            device->ended = true;
            link_session_end(&device->session);
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    device_t device;
    input_t input = {data, data + size};
    memset(&device, 0, sizeof device);
    device.application = (link_application_t){&device, execute, consume, produce};
    device.line = (link_line_t){&device, room, send};
    device.room = 4096;
    link_reader_start(&device.reader);
    link_session_start(&device.session, &device.application, &device.line);
    while (input.at < input.end) {
        act(&device, &input);
        REQUIRE(link_session_next(&device.session) <= device.total);
        REQUIRE(!device.in || link_session_next(&device.session) == device.taken);
    }
    device.room = 1u << 20;
    link_session_pump(&device.session);
    REQUIRE(link_session_answered(&device.session));
    return 0;
}
