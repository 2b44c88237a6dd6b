/* Which command does what; and those of a few lines. Refer to commands.h and docs/formats/device.md. */
#include "bytes.h"
#include "commands.h"
#include "identity.h"
#include "protocol.h"

#include "../port/port.h"

typedef struct {
    device_status_t (*run)(device_t *device, const uint8_t *payload, uint8_t *response);
    uint8_t payload_bytes;
    uint8_t response_bytes;
    bool answers_in_full; /* also when refused; else LINK_MIN_RESPONSE */
} command_t;

/* ---- the board ---- */

static device_status_t identify(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const uint32_t offered = get_u32(payload);
    if (offered == 0) {
        return DEVICE_BAD_REQUEST;
    }
    if (device->boot_id == 0) {
        device->boot_id = offered;
    }
    identity_put(response, device->boot_id, device->model.memory_bytes);
    return DEVICE_OK;
}

static device_status_t counters(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const link_counters_t *link = &device->session.counters;
    const uint32_t values[] = {link->frames, link->overlong, link->malformed, link->corrupt, link->wrong_version,
                               link->stale, port_receive_overruns(), link->blocks_again, device->samples_trained,
                               port_stack_used(), port_stack_size(), port_milliseconds()};
    (void)payload;
    memcpy(response + 4, values, sizeof values);
    return DEVICE_OK;
}

static device_status_t reset(device_t *device, const uint8_t *payload, uint8_t *response)
{
    (void)payload;
    (void)response;
    device->wants_reset = true;
    return DEVICE_OK;
}

/* ---- the table ---- */

static const command_t commands[] = {
    [DEVICE_IDENTIFY] = {identify, 4, IDENTITY_BYTES, false},
    [DEVICE_CONFIGURE] = {command_configure, 8, 28, true},
    [DEVICE_WRITE] = {command_write, 8, 12, false},
    [DEVICE_COMMIT] = {command_commit, 4, 4, false},
    [DEVICE_READ] = {command_read, 12, 12, false},
    [DEVICE_TRAIN] = {command_train, 40, 12, false},
    [DEVICE_EVALUATE] = {command_evaluate, 40, 12, false},
    [DEVICE_RESULT] = {command_result, 0, 36, true},
    [DEVICE_COUNTERS] = {counters, 0, 52, false},
    [DEVICE_RESET] = {reset, 0, 4, false},
    [DEVICE_ENCODE] = {command_encode, 48, 20, false},
};

/* The session has closed the transfer: a phase that waits for its samples will not get them. */
static void close_transfer(device_t *device)
{
    device_settle(device);
    device->transfer = MOVES_NOTHING;
    if (training_needs_bytes(&device->training)) {
        device_abandon_phase(device);
    }
}

static const command_t *find(uint8_t type)
{
    return type < sizeof commands / sizeof commands[0] && commands[type].run != NULL ? &commands[type] : NULL;
}

void device_execute(void *context, uint8_t type, const uint8_t *payload, size_t length, uint8_t *response,
                    size_t *response_length)
{
    device_t *device = context;
    const command_t *command = find(type);
    device_status_t status;
    close_transfer(device);
    if (command == NULL) {
        status = DEVICE_UNKNOWN_COMMAND;
    } else if (length != command->payload_bytes) {
        status = DEVICE_BAD_REQUEST;
    } else {
        status = command->run(device, payload, response);
        *response_length = status == DEVICE_OK || command->answers_in_full ? command->response_bytes : LINK_MIN_RESPONSE;
    }
    response[0] = (uint8_t)status;
}
