/* What goes out. A file of its own so that its buffers are not on the stack while the application's callbacks run. */
#include <string.h>

#include "session.h"

/* Bytes that a frame takes on the wire at most: COBS adds one for each 254 begun, and there is the delimiter. */
static size_t most_on_wire(size_t length)
{
    const size_t frame = LINK_MIN_FRAME + length;
    return frame + frame / 254u + 2u;
}

/* Returns false, having sent nothing, when there is no room. `wire` is the pump's, so that there is one of it. */
static bool send_frame(const link_session_t *session, uint8_t *wire, uint8_t type, uint16_t sequence,
                       const uint8_t *payload, size_t length)
{
    const link_line_t *line = session->line;
    const link_frame_t frame = {LINK_VERSION, type, sequence, (uint16_t)length, payload};
    if (line->room(line->context) < most_on_wire(length)) {
        return false;
    }
    line->send(line->context, wire, link_encode(&frame, wire));
    return true;
}

static bool send_response(const link_session_t *session, uint8_t *wire)
{
    return send_frame(session, wire, session->command | LINK_RESPONSE, session->sequence, session->response,
                      session->response_length);
}

static bool send_refusal(const link_session_t *session, uint8_t *wire)
{
    const uint8_t payload[LINK_MIN_RESPONSE] = {session->refusal_status};
    const size_t length = session->refusal_type == LINK_WRONG_VERSION_TYPE ? 1u : LINK_MIN_RESPONSE;
    return send_frame(session, wire, session->refusal_type, session->refusal_sequence, payload, length);
}

static bool send_ack(const link_session_t *session, uint8_t *wire)
{
    uint8_t payload[9];
    link_put_u32(payload, session->next);
    link_put_u32(payload + 4, link_session_limit(session));
    payload[8] = (uint8_t)(session->ack_flags | (session->ended ? LINK_ENDED : 0));
    return send_frame(session, wire, LINK_ACK, session->transfer, payload, sizeof payload);
}

static bool send_block(link_session_t *session, uint8_t *wire)
{
    uint8_t payload[4 + LINK_BLOCK];
    const uint32_t offset = session->position;
    const uint32_t left = session->total - offset;
    const uint32_t count = left < LINK_BLOCK ? left : LINK_BLOCK;
    if (session->line->room(session->line->context) < most_on_wire(4 + count)) {
        return false; /* before the application makes the block in vain */
    }
    link_put_u32(payload, offset);
    session->application->produce(session->application->context, offset, payload + 4, count);
    session->position = offset + count;
    return send_frame(session, wire, LINK_DATA, session->transfer, payload, 4 + count);
}

/* Send one thing of what is to be sent. Returns false when there is none, or no room for it. */
static bool send_one(link_session_t *session, uint8_t *wire)
{
    if (session->response_owed) {
        session->response_owed = !send_response(session, wire);
        return !session->response_owed;
    }
    if (session->refusal_owed) {
        session->refusal_owed = !send_refusal(session, wire);
        return !session->refusal_owed;
    }
    if (session->ack_owed) {
        session->ack_owed = !send_ack(session, wire);
        return !session->ack_owed;
    }
    return session->direction == LINK_OUT && !session->ended && session->position < session->limit &&
           send_block(session, wire);
}

void link_session_pump(link_session_t *session)
{
    uint8_t wire[LINK_MAX_WIRE];
    while (send_one(session, wire)) {
    }
}
