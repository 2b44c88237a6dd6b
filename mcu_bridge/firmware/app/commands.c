/* The device protocol's commands, one function each: docs/formats/device.md. A function is called with a payload of
 * exactly its length and a response of zeros; it checks everything, then acts, so a refusal changes nothing but what
 * the page says. The first byte of the response is set from what it returns. */
#include "bytes.h"
#include "device.h"
#include "identity.h"
#include "protocol.h"
#include "selection.h"

#include "../port/port.h"

#define LAYER_BYTES ((uint32_t)sizeof(learner_layer_t))

typedef struct {
    device_status_t (*run)(device_t *device, const uint8_t *payload, uint8_t *response);
    uint8_t payload_bytes;
    uint8_t response_bytes;
    bool answers_in_full; /* also when refused; else LINK_MIN_RESPONSE */
} command_t;

/* ---- the model ---- */

static void forget_parameters(device_t *device)
{
    device_abandon_phase(device);
    device->has_parameters = false;
    device->has_start = false;
    device->selected = 0;
}

static void forget_model(device_t *device)
{
    forget_parameters(device);
    device->upload.region = DEVICE_NO_REGION;
    device->model.is_configured = false;
}

static device_status_t configure_table(device_t *device, const model_request_t *request, model_report_t *report)
{
    if (device->table_bytes == 0) {
        return DEVICE_WRONG_STATE;
    }
    if (request->layers * LAYER_BYTES != device->table_bytes) {
        return DEVICE_BAD_REQUEST;
    }
    return model_configure(&device->model, request, report);
}

static device_status_t configure(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const model_request_t request = {payload[0], payload[1], payload[2], get_u32(payload + 4)};
    const bool is_clean = payload[3] == 0;
    const bool writes_table = device->upload.region == DEVICE_TABLE;
    const upload_t upload = device->upload;
    model_report_t report;
    device_status_t status;
    forget_model(device);
    if (writes_table) { /* its bytes stay where they are */
        device->upload = upload;
    }
    model_report_start(&device->model, &report);
    status = is_clean ? configure_table(device, &request, &report) : DEVICE_BAD_REQUEST;
    put_u32(response + 4, report.needed);
    put_u32(response + 8, report.available);
    put_u32(response + 12, report.size.inputs);
    put_u32(response + 16, report.size.outputs);
    put_u32(response + 20, report.size.parameters);
    put_u32(response + 24, report.size.arena_bytes);
    return status;
}

/* ---- regions ---- */

static device_status_t check_write(const device_t *device, uint32_t region, uint32_t total)
{
    if (region == DEVICE_TABLE) {
        const bool is_table = total % LAYER_BYTES == 0 && total >= LAYER_BYTES && total <= LEARNER_MAX_LAYERS * LAYER_BYTES;
        const bool fits = total <= device->model.memory_bytes;
        return !is_table ? DEVICE_BAD_REQUEST : fits ? DEVICE_OK : DEVICE_DOES_NOT_FIT;
    }
    if (region != DEVICE_PARAMETERS) {
        return DEVICE_BAD_REQUEST;
    }
    if (!device->model.is_configured) {
        return DEVICE_WRONG_STATE;
    }
    return total == 4u * device->model.size.parameters ? DEVICE_OK : DEVICE_BAD_REQUEST;
}

static void begin_upload(device_t *device, uint32_t region, uint32_t total, bool resumes)
{
    const bool same = device->upload.region == region && device->upload.total == total;
    const uint32_t next = resumes && same ? device->upload.next : 0;
    if (region == DEVICE_TABLE) {
        forget_model(device);
        device->table_bytes = 0;
    } else {
        forget_parameters(device);
    }
    device->upload.region = region;
    device->upload.total = total;
    device->upload.next = next;
    device->transfer = MOVES_REGION;
    link_session_open_in(&device->session, total, next);
}

static device_status_t write_region(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const uint32_t region = payload[0];
    const uint32_t total = get_u32(payload + 4);
    device_status_t status;
    if (payload[1] > 1 || payload[2] != 0 || payload[3] != 0) {
        return DEVICE_BAD_REQUEST;
    }
    status = check_write(device, region, total);
    if (status == DEVICE_OK) {
        begin_upload(device, region, total, payload[1] == 1);
        put_u32(response + 4, link_session_next(&device->session));
        put_u32(response + 8, link_session_limit(&device->session));
    }
    return status;
}

static uint32_t stretches_crc32(const device_t *device, uint32_t region, uint32_t at, uint32_t left)
{
    uint32_t crc = 0;
    while (left > 0) {
        const stretch_t stretch = device_stretch(device, region, at, left);
        crc = link_crc32(crc, stretch.bytes, stretch.count);
        at += stretch.count;
        left -= stretch.count;
    }
    return crc;
}

static device_status_t accept_parameters(device_t *device)
{
    const model_t *model = &device->model;
    if (learner_all_finite(model->parameters, model->size.parameters) == 0) {
        return DEVICE_BAD_REQUEST;
    }
    if (model->start != NULL) {
        memcpy(model->start, model->parameters, (size_t)model->size.parameters * sizeof(float));
        device->has_start = true;
    }
    device->has_parameters = true;
    return DEVICE_OK;
}

static device_status_t commit(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const upload_t upload = device->upload;
    const uint8_t *bytes;
    (void)response;
    if (upload.region == DEVICE_NO_REGION) {
        return DEVICE_WRONG_STATE;
    }
    if (upload.next < upload.total) {
        return DEVICE_INCOMPLETE;
    }
    device->upload.region = DEVICE_NO_REGION;
    bytes = upload.region == DEVICE_TABLE ? device->model.memory : (const uint8_t *)device->model.parameters;
    if (link_crc32(0, bytes, upload.total) != get_u32(payload)) {
        return DEVICE_CORRUPT;
    }
    if (upload.region == DEVICE_PARAMETERS) {
        return accept_parameters(device);
    }
    device->table_bytes = upload.total;
    return DEVICE_OK;
}

/* 0 for a region that cannot be read, or not now. */
static uint32_t readable_bytes(const device_t *device, uint32_t region)
{
    if (region == DEVICE_PARAMETERS && device->has_parameters) {
        return 4u * device->model.size.parameters;
    }
    if (region == DEVICE_SELECTION && device->selected > 0) {
        return model_bitmap_bytes(&device->model) + 4u * device->selected;
    }
    return 0;
}

static device_status_t read_region(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const uint32_t region = payload[0];
    const uint32_t offset = get_u32(payload + 4);
    const uint32_t length = get_u32(payload + 8);
    const uint32_t bytes = readable_bytes(device, region);
    if ((region != DEVICE_PARAMETERS && region != DEVICE_SELECTION) || payload[1] != 0 || payload[2] != 0 ||
        payload[3] != 0) {
        return DEVICE_BAD_REQUEST;
    }
    if (bytes == 0) {
        return DEVICE_WRONG_STATE;
    }
    if (offset % 4u != 0 || offset >= bytes || length == 0 || length > bytes - offset) {
        return DEVICE_BAD_REQUEST;
    }
    device->read_region = region;
    device->read_from = offset;
    device->transfer = MOVES_READ;
    put_u32(response + 4, stretches_crc32(device, region, offset, length));
    put_u32(response + 8, length);
    link_session_open_out(&device->session, length);
    return DEVICE_OK;
}

/* ---- phases ---- */

static training_request_t training_request(const uint8_t *payload)
{
    training_request_t request;
    request.trainable = get_u64(payload);
    request.samples = get_u32(payload + 8);
    request.batch_size = get_u32(payload + 12);
    request.passes = get_u32(payload + 16);
    request.rate = get_f32(payload + 20);
    request.source = payload[24];
    request.input_encoding = payload[25];
    request.target_encoding = payload[26];
    request.evaluates = false;
    request.divisor = get_f32(payload + 28);
    request.seed = get_u32(payload + 32);
    return request;
}

static void open_samples(device_t *device, uint8_t *response)
{
    const uint32_t total = training_total(&device->training);
    device->transfer = MOVES_SAMPLES;
    if (device->training.request.source == DEVICE_FROM_LINE) {
        link_session_open_in(&device->session, total, 0);
    } else {
        link_session_open_count(&device->session, total);
    }
    put_u32(response + 4, total);
    put_u32(response + 8, link_session_limit(&device->session));
}

static device_status_t start_phase(device_t *device, const uint8_t *payload, uint8_t *response, bool evaluates)
{
    training_request_t request = training_request(payload);
    device_status_t status;
    request.evaluates = evaluates;
    if (payload[27] != 0) {
        return DEVICE_BAD_REQUEST;
    }
    if (!device->has_parameters) {
        return DEVICE_WRONG_STATE;
    }
    status = training_start(&device->training, &device->model, &request);
    if (status == DEVICE_OK) {
        device->has_parameters = evaluates; /* training: until it is finished */
        open_samples(device, response);
    }
    return status;
}

static device_status_t train(device_t *device, const uint8_t *payload, uint8_t *response)
{
    return start_phase(device, payload, response, false);
}

static device_status_t evaluate(device_t *device, const uint8_t *payload, uint8_t *response)
{
    return start_phase(device, payload, response, true);
}

static device_status_t result_status(training_state_t state)
{
    switch (state) {
    case TRAINING_RUNNING: return DEVICE_INCOMPLETE;
    case TRAINING_FINISHED: return DEVICE_OK;
    case TRAINING_DIVERGED: return DEVICE_OK;
    case TRAINING_BAD_SAMPLE: return DEVICE_BAD_REQUEST;
    default: return DEVICE_WRONG_STATE;
    }
}

static device_status_t result(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const training_t *training = &device->training;
    (void)payload;
    if (training->state != TRAINING_NONE) {
        response[1] = training->diverged ? 1 : 0;
        put_u32(response + 4, training->steps);
        put_u32(response + 8, training->updates);
        put_u32(response + 12, training->correct);
        put_u32(response + 16, training->crc32);
        put_u64(response + 20, training->ticks);
        put_f64(response + 28, training->loss_sum);
    }
    return result_status(training->state);
}

static device_status_t choose(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const model_t *model = &device->model;
    const uint32_t count = get_u32(payload);
    if (!device->has_parameters || !device->has_start) {
        return DEVICE_WRONG_STATE;
    }
    if (count < 1 || count > model->size.parameters) {
        return DEVICE_BAD_REQUEST;
    }
    selection_choose(model->parameters, model->start, model->size.parameters, count, model->bitmap);
    device->has_start = false;
    device->selected = count;
    put_u32(response + 4, count);
    put_u32(response + 8, readable_bytes(device, DEVICE_SELECTION));
    return DEVICE_OK;
}

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
    [DEVICE_IDENTIFY] = {identify, 4, IDENTITY_BYTES, false}, [DEVICE_CONFIGURE] = {configure, 8, 28, true},
    [DEVICE_WRITE] = {write_region, 8, 12, false},            [DEVICE_COMMIT] = {commit, 4, 4, false},
    [DEVICE_READ] = {read_region, 12, 12, false},             [DEVICE_TRAIN] = {train, 36, 12, false},
    [DEVICE_EVALUATE] = {evaluate, 36, 12, false},            [DEVICE_RESULT] = {result, 0, 36, true},
    [DEVICE_SELECT] = {choose, 4, 12, false},                 [DEVICE_COUNTERS] = {counters, 0, 52, false},
    [DEVICE_RESET] = {reset, 0, 4, false},
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
