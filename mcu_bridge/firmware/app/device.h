/* The device: a model, what is being moved into or out of it, and the phase that runs on it.
 *
 * One promise: the parameters that READ, TRAIN, EVALUATE and ENCODE work on are a whole vector that a COMMIT found right,
 * or what a whole phase made of such a one. `has_parameters` says that there are some, and is false from the moment
 * that anything may change them until that is done. docs/formats/device.md has the states as a table.
 *
 * The link's session calls device_execute and the two transfers' functions; the main loop calls device_work, which does
 * at most one training step. A block of samples that has come is kept here until it is worked off; so long as one is
 * kept, no more bytes may be given to the session: what comes then waits in the port's ring, which is what the link's
 * window of three blocks is for. */
#ifndef TINYFLEET_DEVICE_H
#define TINYFLEET_DEVICE_H

#include "../codec/update.h"
#include "../link/link.h"
#include "../link/session.h"
#include "model.h"
#include "training.h"

#include <stdbool.h>
#include <stddef.h>

/* What a WRITE has brought so far, and may resume. */
typedef struct {
    uint32_t region; /* DEVICE_NO_REGION: nothing is under way */
    uint32_t total;
    uint32_t next;
} upload_t;

typedef enum { MOVES_NOTHING, MOVES_REGION, MOVES_SAMPLES, MOVES_READ } device_transfer_t;

/* Public for tests; all but these files use the functions below. */
typedef struct {
    link_application_t application;
    link_session_t session;
    model_t model;
    training_t training;
    upload_t upload;
    uint32_t table_bytes;    /* of the committed table; 0: there is none */
    bool has_parameters;     /* READ, TRAIN, EVALUATE and ENCODE may be */
    bool has_start;          /* model.start is what was committed last */
    bool wants_reset;
    device_transfer_t transfer;
    update_t update;         /* lies over model.start, from ENCODE to the next WRITE or CONFIGURE */
    uint32_t read_region;
    uint32_t read_from;
    uint32_t boot_id;        /* 0: none was offered yet */
    uint32_t samples_trained;
    uint32_t block_at;       /* of the block of samples: worked off */
    uint32_t block_count;
    uint8_t block[LINK_BLOCK];
} device_t;

/* As after a reset. memory is aligned to 8; it, the line and the device stay where they are. */
void device_start(device_t *device, const link_line_t *line, void *memory, size_t bytes);

/* Whether device_work has something to do. */
bool device_is_busy(const device_t *device);

/* Whether a block waits to be worked off, so that no more bytes may be taken from the line. */
bool device_keeps_block(const device_t *device);

/* Whether the board is to be reset now: the response to RESET has been handed to the line. */
bool device_resets_now(const device_t *device);

/* At most one training step. */
void device_work(device_t *device);

/* Work off the block that is kept. A main loop that gives the session no bytes meanwhile leaves nothing to do. */
void device_settle(device_t *device);

/* Forget the phase; its parameters are of use again when it left them alone. */
void device_abandon_phase(device_t *device);

/* The longest stretch of memory that starts at `offset` of the region, at most `count` bytes; both lie within the region.
 * An update is several stretches, all else is one. */
stretch_t device_stretch(const device_t *device, uint32_t region, uint32_t offset, uint32_t count);

/* link_application_t's execute: in commands.c. */
void device_execute(void *context, uint8_t command, const uint8_t *payload, size_t length, uint8_t *response,
                    size_t *response_length);

#endif
