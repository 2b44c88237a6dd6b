/* The device's half of the serial link: answers commands, receives and sends transfers.
 *
 * The host keeps all timers and repeats what got lost; a device only reacts. docs/formats/link.md has the rules. The
 * session keeps them, so that an application sees each command once and each byte of a transfer once and in order.
 *
 * How to use it (the application's main loop):
 *
 *     link_session_start(&session, &application, &line);
 *     for (;;) {
 *         for each byte received:
 *             event = link_reader_take(&reader, byte, &frame);
 *             if (event != LINK_NOTHING) link_session_take(&session, event, &frame);
 *         link_session_pump(&session);      sends what had no room before
 *     }
 *
 * and in its `execute`, for a command that moves bytes:
 *
 *     link_session_open_in(&session, total, next);      the host sends; `consume` gets the bytes
 *     link_session_open_out(&session, total);           the device sends; `produce` makes the bytes
 *     link_session_open_count(&session, total);         no bytes: POLL asks how far link_session_advance has come
 *
 * Nothing waits: what the line has no room for is owed, and paid by a later pump. Owed are at most one response, one
 * refusal and one ACK; a newer one takes the place of an older one, which the host has given up or will ask for again.
 *
 * Ownership: the caller owns the session, the application and the line; the latter two must stay as they are as long as
 * the session is used. Nothing is to be released.
 *
 * Re-entrancy: one session, one thread. Of the functions below, execute may call those for transfers and consume
 * link_session_end and those that tell something; produce and the line may call none.
 *
 * Trust: frames may hold anything; the callbacks get lengths within the bounds stated.
 *
 * Cost: that of encoding what is sent. RAM: 168 bytes on a Cortex-M4. Stack: below 100 bytes where execute and
 * consume are called, about 700 where a block is sent, with `produce` on top.
 */
#ifndef TINYFLEET_LINK_SESSION_H
#define TINYFLEET_LINK_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link.h"

#define LINK_MAX_RESPONSE 96u           /* bytes of a response's payload, kept for repeats */
#define LINK_MIN_RESPONSE 4u            /* status, 0, 0, 0 */
#define LINK_WINDOW (3u * LINK_BLOCK)   /* what a host may send ahead: what the receive ring holds */

/* The statuses of which the session itself makes use; docs/formats/device.md has all of them. */
enum { LINK_STATUS_OK = 0, LINK_STATUS_NOT_IDENTIFIED = 3, LINK_STATUS_NO_TRANSFER = 11 };

/* What the device does. None may wait for the line. */
typedef struct {
    void *context; /* handed to each of the functions */

    /* Do the command (LINK_FIRST_COMMAND..LINK_LAST_COMMAND), once: repeats get the same response without it. An
     * IDENTIFY is the exception, it is done each time that it comes. Called only after an IDENTIFY has succeeded.
     * payload[length], length 0..LINK_MAX_PAYLOAD, is valid during the call. On entry, response[LINK_MAX_RESPONSE]
     * is zeros and *response_length is LINK_MIN_RESPONSE: to do nothing answers OK. response[0] is the status; with
     * another than LINK_STATUS_OK, a transfer that the call has opened is closed again. A transfer of before has been
     * closed, but link_session_next and link_session_complete still tell of it until another is opened. */
    void (*execute)(void *context, uint8_t command, const uint8_t *payload, size_t length, uint8_t *response,
                    size_t *response_length);

    /* Take the bytes at `offset` of the transfer in. Each comes once, in order; count is 1..LINK_BLOCK. They count as
     * acknowledged when it returns. Returns false when no more of the transfer is wanted, which ends it. */
    bool (*consume)(void *context, uint32_t offset, const uint8_t *bytes, size_t count);

    /* Write the bytes from `offset` of the transfer out; count is 1..LINK_BLOCK, offset + count at most the total. What
     * got lost is asked for again, so the same bytes must come each time. */
    void (*produce)(void *context, uint32_t offset, uint8_t *bytes, size_t count);
} link_application_t;

/* Where bytes go. The room must reach LINK_MAX_WIRE when all has left. */
typedef struct {
    void *context;
    size_t (*room)(void *context);                                      /* how many bytes send takes at once */
    void (*send)(void *context, const uint8_t *bytes, size_t count);    /* count is at most that; never waits */
} link_line_t;

/* How often what has happened, since the start; they wrap. */
typedef struct {
    uint32_t frames; /* good ones */
    uint32_t overlong;
    uint32_t malformed;
    uint32_t corrupt;
    uint32_t wrong_version;
    uint32_t stale;        /* good frames that nobody waited for: another sequence, transfer or type, no such block */
    uint32_t blocks_again; /* DATA that came twice, or after one that is missing */
} link_counters_t;

/* What a transfer does. */
typedef enum { LINK_CLOSED, LINK_IN, LINK_OUT, LINK_COUNT } link_direction_t;

/* A session. Only `counters` may be read directly. */
typedef struct {
    link_counters_t counters;
    const link_application_t *application;
    const link_line_t *line;
    /* the transfer */
    uint32_t total;
    uint32_t next;     /* in: taken; out: acknowledged; count: as advanced */
    uint32_t limit;    /* out: may be sent */
    uint32_t position; /* out: has been sent */
    uint16_t transfer; /* its id, the sequence of the command that opened it */
    uint8_t direction; /* link_direction_t */
    bool ended;
    bool gap_told; /* AGAIN has been said about `next` */
    /* the last command, and its response */
    bool identified;
    uint8_t command;
    uint16_t sequence;
    uint16_t response_length;
    uint8_t response[LINK_MAX_RESPONSE];
    /* what is owed */
    bool response_owed;
    bool refusal_owed;
    bool ack_owed;
    uint8_t ack_flags;
    uint8_t refusal_type;
    uint8_t refusal_status; /* or our peer's version, for LINK_WRONG_VERSION_TYPE */
    uint16_t refusal_sequence;
} link_session_t;

/* As after a reset: no IDENTIFY has come, no transfer is open, nothing is owed, all counters are 0. */
void link_session_start(link_session_t *session, const link_application_t *application, const link_line_t *line);

/* Take what link_reader_take gave, and send what is to be sent for it as far as there is room. May call each of the
 * callbacks. LINK_NOTHING does nothing. */
void link_session_take(link_session_t *session, link_event_t event, const link_frame_t *frame);

/* Send what is owed and what a transfer out may send, as far as there is room. */
void link_session_pump(link_session_t *session);

/* Whether nothing is owed: the last response has been handed to the line. */
bool link_session_answered(const link_session_t *session);

/* ---- Transfers. An open one is replaced; the next command closes it. ---- */

/* Bytes next..total from the host; next is a multiple of LINK_BLOCK, or the total. */
void link_session_open_in(link_session_t *session, uint32_t total, uint32_t next);

/* Bytes 0..total to the host, from its first ACK on. */
void link_session_open_out(link_session_t *session, uint32_t total);

/* No bytes: a count from 0 to total that the application raises and POLL asks for. */
void link_session_open_count(link_session_t *session, uint32_t total);

/* The count has reached `next`, at most the total. */
void link_session_advance(link_session_t *session, uint32_t next);

/* No more of the transfer in, or of the count, is wanted; the host is told at the next pump. So it is when consume
 * returns false. Once it has ended, or none is open, this does nothing. */
void link_session_end(link_session_t *session);

/* Whether all of the transfer opened last has been consumed, acknowledged or counted; also once it is closed. */
bool link_session_complete(const link_session_t *session);

/* How far that is, 0..total. */
uint32_t link_session_next(const link_session_t *session);

/* Up to where the host may send (exclusive), for the response of the command that opened it: `next` for a count. */
uint32_t link_session_limit(const link_session_t *session);

#endif
