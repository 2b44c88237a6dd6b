/* CONFIGURE, WRITE, COMMIT and READ: refer to commands.h. */
#include "bytes.h"
#include "commands.h"

#define LAYER_BYTES ((uint32_t)sizeof(learner_layer_t))

/* ---- CONFIGURE ---- */

static void forget_parameters(device_t *device)
{
    device_abandon_phase(device);
    device->has_parameters = false;
    device->has_start = false;
    device->update.bytes = 0;
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

device_status_t command_configure(device_t *device, const uint8_t *payload, uint8_t *response)
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

/* ---- WRITE and COMMIT ---- */

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

device_status_t command_write(device_t *device, const uint8_t *payload, uint8_t *response)
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

device_status_t command_commit(device_t *device, const uint8_t *payload, uint8_t *response)
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

/* ---- READ ---- */

/* 0 for a region that cannot be read, or not now. */
static uint32_t readable_bytes(const device_t *device, uint32_t region)
{
    if (region == DEVICE_PARAMETERS && device->has_parameters) {
        return 4u * device->model.size.parameters;
    }
    return region == DEVICE_UPDATE ? device->update.bytes : 0;
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

device_status_t command_read(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const uint32_t region = payload[0];
    const uint32_t offset = get_u32(payload + 4);
    const uint32_t length = get_u32(payload + 8);
    const uint32_t bytes = readable_bytes(device, region);
    if ((region != DEVICE_PARAMETERS && region != DEVICE_UPDATE) || payload[1] != 0 || payload[2] != 0 ||
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
