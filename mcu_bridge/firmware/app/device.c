/* Refer to device.h. */
#include "device.h"

#include <string.h>

/* ---- transfers ---- */

static uint8_t *upload_target(const device_t *device)
{
    return device->upload.region == DEVICE_TABLE ? device->model.memory : (uint8_t *)device->model.parameters;
}

void device_settle(device_t *device)
{
    while (device_keeps_block(device)) {
        device_work(device);
    }
}

static void keep_block(device_t *device, const uint8_t *bytes, size_t count)
{
    memcpy(device->block, bytes, count);
    device->block_at = 0;
    device->block_count = (uint32_t)count;
}

/* The session has checked that offset + count is within the transfer's total, which is the region's. */
static bool consume(void *context, uint32_t offset, const uint8_t *bytes, size_t count)
{
    device_t *device = context;
    device_settle(device);
    if (device->transfer == MOVES_REGION) {
        memcpy(upload_target(device) + offset, bytes, count);
        device->upload.next = offset + (uint32_t)count;
        return true;
    }
    if (device->transfer == MOVES_SAMPLES && training_needs_bytes(&device->training)) {
        keep_block(device, bytes, count);
        return true;
    }
    return false;
}

stretch_t device_stretch(const device_t *device, uint32_t region, uint32_t offset, uint32_t count)
{
    const stretch_t parameters = {(const uint8_t *)device->model.parameters + offset, count};
    return region == DEVICE_UPDATE ? update_stretch(&device->update, offset, count) : parameters;
}

static void produce(void *context, uint32_t offset, uint8_t *bytes, size_t count)
{
    const device_t *device = context;
    uint32_t at = device->read_from + offset;
    uint32_t left = (uint32_t)count;
    while (left > 0) {
        const stretch_t stretch = device_stretch(device, device->read_region, at, left);
        memcpy(bytes, stretch.bytes, stretch.count);
        bytes += stretch.count;
        at += stretch.count;
        left -= stretch.count;
    }
}

/* ---- the phase ---- */

static bool takes_from_block(const device_t *device)
{
    return device_keeps_block(device) && training_needs_bytes(&device->training) &&
           !training_can_step(&device->training);
}

bool device_keeps_block(const device_t *device)
{
    return device->block_at < device->block_count;
}

bool device_is_busy(const device_t *device)
{
    return device_keeps_block(device) || training_can_step(&device->training);
}

bool device_resets_now(const device_t *device)
{
    return device->wants_reset && link_session_answered(&device->session);
}

static void tell_progress(device_t *device)
{
    const training_t *training = &device->training;
    if (device->transfer != MOVES_SAMPLES) { /* a command has closed it, the phase goes on without */
        return;
    }
    if (training->request.source == DEVICE_FROM_SENSOR) {
        link_session_advance(&device->session, training->steps);
    }
    if (training->state == TRAINING_DIVERGED || training->state == TRAINING_BAD_SAMPLE) {
        link_session_end(&device->session);
    }
}

/* What a phase that no longer runs leaves behind. An evaluation changes nothing. */
static void judge_parameters(device_t *device)
{
    const training_t *training = &device->training;
    if (training->request.evaluates || training->state == TRAINING_NONE) {
        return;
    }
    device->has_parameters = training->state == TRAINING_FINISHED ||
                             (training->state != TRAINING_DIVERGED && training->updates == 0);
}

void device_abandon_phase(device_t *device)
{
    if (device->training.state == TRAINING_RUNNING) {
        judge_parameters(device);
    }
    training_stop(&device->training);
    device->block_count = 0;
}

static void make_step(device_t *device)
{
    training_step(&device->training);
    device->samples_trained += device->training.request.evaluates ? 0u : 1u;
}

void device_work(device_t *device)
{
    training_t *training = &device->training;
    if (training->state != TRAINING_RUNNING) {
        return;
    }
    if (takes_from_block(device)) {
        device->block_at +=
            training_take(training, device->block + device->block_at, device->block_count - device->block_at);
    }
    if (training_can_step(training)) {
        make_step(device);
    }
    tell_progress(device);
    if (training->state != TRAINING_RUNNING) {
        device->block_count = 0;
        judge_parameters(device);
    }
}

void device_start(device_t *device, const link_line_t *line, void *memory, size_t bytes)
{
    memset(device, 0, sizeof *device);
    device->application.context = device;
    device->application.execute = device_execute;
    device->application.consume = consume;
    device->application.produce = produce;
    model_start(&device->model, memory, bytes);
    link_session_start(&device->session, &device->application, line);
}
