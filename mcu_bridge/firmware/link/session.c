/* What comes in, and what is owed for it; sending.c pays. */
#include "session.h"

#include <string.h>

#define DATA_OFFSET 4u /* bytes of DATA before those of the block */
#define ACK_LENGTH 9u

/* ---- Commands ---- */

static void refuse(link_session_t *session, uint8_t type, uint16_t sequence, uint8_t status)
{
    session->refusal_type = type;
    session->refusal_sequence = sequence;
    session->refusal_status = status;
    session->refusal_owed = true;
}

static void close_transfer(link_session_t *session)
{
    session->direction = LINK_CLOSED;
    session->ack_owed = false;
}

static void execute(link_session_t *session, const link_frame_t *frame)
{
    size_t length = LINK_MIN_RESPONSE;
    close_transfer(session);
    session->command = frame->type;
    session->sequence = frame->sequence;
    memset(session->response, 0, sizeof session->response);
    session->application->execute(session->application->context, frame->type, frame->payload, frame->length,
                                  session->response, &length);
    session->response_length = (uint16_t)(length < LINK_MAX_RESPONSE ? length : LINK_MAX_RESPONSE);
    session->response_owed = true;
    if (session->response[0] != LINK_STATUS_OK) {
        close_transfer(session);
    } else if (frame->type == LINK_IDENTIFY) {
        session->identified = true;
    }
}

static void take_command(link_session_t *session, const link_frame_t *frame)
{
    const bool follows = frame->sequence == (uint16_t)(session->sequence + 1u);
    if (frame->type == LINK_IDENTIFY) {
        execute(session, frame);
    } else if (!session->identified) {
        refuse(session, frame->type | LINK_RESPONSE, frame->sequence, LINK_STATUS_NOT_IDENTIFIED);
    } else if (follows) {
        execute(session, frame);
    } else if (frame->sequence == session->sequence && frame->type == session->command) {
        session->response_owed = true;
    } else {
        session->counters.stale++;
    }
}

/* ---- Transfers ---- */

static bool is_open(const link_session_t *session, link_direction_t direction, const link_frame_t *frame)
{
    return session->direction == direction && frame->sequence == session->transfer;
}

static void owe_ack(link_session_t *session, uint8_t flags)
{
    session->ack_flags = session->ack_owed ? session->ack_flags | flags : flags;
    session->ack_owed = true;
}

/* Whether these are the bytes of one of the transfer's blocks. */
static bool is_block(const link_session_t *session, uint32_t offset, uint32_t count)
{
    if (offset >= session->total || offset % LINK_BLOCK != 0) {
        return false;
    }
    const uint32_t left = session->total - offset;
    return count == (left < LINK_BLOCK ? left : LINK_BLOCK);
}

static void take_block(link_session_t *session, uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    uint8_t flags = 0;
    if (session->ended) {
        /* Sent before the host knew. */
    } else if (offset == session->next) {
        if (!session->application->consume(session->application->context, offset, bytes, count)) {
            session->ended = true;
        }
        session->next += count;
        session->gap_told = false;
    } else {
        session->counters.blocks_again++;
        if (offset > session->next && !session->gap_told) {
            session->gap_told = true;
            flags = LINK_AGAIN;
        }
    }
    owe_ack(session, flags);
}

static void take_data(link_session_t *session, const link_frame_t *frame)
{
    if (is_open(session, LINK_IN, frame) && frame->length > DATA_OFFSET) {
        const uint32_t offset = link_u32(frame->payload);
        const uint32_t count = frame->length - DATA_OFFSET;
        if (is_block(session, offset, count)) {
            take_block(session, offset, frame->payload + DATA_OFFSET, count);
            return;
        }
    }
    session->counters.stale++;
}

/* Whether the transfer out can have been received up to there, and no less than was said before. */
static bool is_progress(const link_session_t *session, uint32_t next)
{
    return next >= session->next && next <= session->total && (next % LINK_BLOCK == 0 || next == session->total);
}

static void take_ack(link_session_t *session, const link_frame_t *frame)
{
    if (!is_open(session, LINK_OUT, frame) || frame->length != ACK_LENGTH ||
        !is_progress(session, link_u32(frame->payload))) {
        session->counters.stale++;
        return;
    }
    const uint32_t limit = link_u32(frame->payload + 4);
    const uint8_t flags = frame->payload[8];
    session->next = link_u32(frame->payload);
    if (limit > session->limit) {
        session->limit = limit < session->total ? limit : session->total;
    }
    if ((flags & LINK_AGAIN) != 0 || session->position < session->next) {
        session->position = session->next;
    }
    if ((flags & LINK_ENDED) != 0) {
        session->ended = true;
    }
}

static void take_poll(link_session_t *session, const link_frame_t *frame)
{
    if (frame->length != 0) {
        session->counters.stale++;
    } else if (!session->identified) {
        refuse(session, LINK_POLL | LINK_RESPONSE, frame->sequence, LINK_STATUS_NOT_IDENTIFIED);
    } else if (is_open(session, LINK_IN, frame) || is_open(session, LINK_COUNT, frame)) {
        owe_ack(session, LINK_AGAIN);
        session->gap_told = false; /* the host goes back now: a gap after this is a new one */
    } else {
        refuse(session, LINK_POLL | LINK_RESPONSE, frame->sequence, LINK_STATUS_NO_TRANSFER);
    }
}

/* ---- Frames ---- */

static void take_frame(link_session_t *session, const link_frame_t *frame)
{
    session->counters.frames++;
    if (frame->type >= LINK_FIRST_COMMAND && frame->type <= LINK_LAST_COMMAND) {
        take_command(session, frame);
    } else if (frame->type == LINK_DATA) {
        take_data(session, frame);
    } else if (frame->type == LINK_ACK) {
        take_ack(session, frame);
    } else if (frame->type == LINK_POLL) {
        take_poll(session, frame);
    } else {
        session->counters.stale++;
    }
}

void link_session_start(link_session_t *session, const link_application_t *application, const link_line_t *line)
{
    memset(session, 0, sizeof *session);
    session->application = application;
    session->line = line;
}

void link_session_take(link_session_t *session, link_event_t event, const link_frame_t *frame)
{
    switch (event) {
    case LINK_NOTHING:
        return;
    case LINK_FRAME:
        take_frame(session, frame);
        break;
    case LINK_WRONG_VERSION:
        session->counters.wrong_version++;
        refuse(session, LINK_WRONG_VERSION_TYPE, frame->sequence, LINK_VERSION);
        break;
    case LINK_OVERLONG:
        session->counters.overlong++;
        return;
    case LINK_MALFORMED:
        session->counters.malformed++;
        return;
    case LINK_CORRUPT:
        session->counters.corrupt++;
        return;
    }
    link_session_pump(session);
}

/* ---- What the application calls ---- */

static void open_transfer(link_session_t *session, link_direction_t direction, uint32_t total, uint32_t next)
{
    session->direction = (uint8_t)direction;
    session->transfer = session->sequence;
    session->total = total;
    session->next = next;
    session->limit = 0;
    session->position = 0;
    session->ended = false;
    session->gap_told = false;
    session->ack_owed = false;
}

void link_session_open_in(link_session_t *session, uint32_t total, uint32_t next)
{
    open_transfer(session, LINK_IN, total, next);
}

void link_session_open_out(link_session_t *session, uint32_t total)
{
    open_transfer(session, LINK_OUT, total, 0);
}

void link_session_open_count(link_session_t *session, uint32_t total)
{
    open_transfer(session, LINK_COUNT, total, 0);
}

void link_session_advance(link_session_t *session, uint32_t next)
{
    if (session->direction == LINK_COUNT) {
        session->next = next < session->total ? next : session->total;
    }
}

void link_session_end(link_session_t *session)
{
    if (!session->ended && (session->direction == LINK_IN || session->direction == LINK_COUNT)) {
        session->ended = true;
        owe_ack(session, 0);
    }
}

bool link_session_answered(const link_session_t *session)
{
    return !session->response_owed && !session->refusal_owed && !session->ack_owed;
}

bool link_session_complete(const link_session_t *session)
{
    return session->next == session->total;
}

uint32_t link_session_next(const link_session_t *session)
{
    return session->next;
}

uint32_t link_session_limit(const link_session_t *session)
{
    if (session->direction == LINK_COUNT) {
        return session->next;
    }
    return session->total - session->next < LINK_WINDOW ? session->total : session->next + LINK_WINDOW;
}
