/* TRAIN, EVALUATE and RESULT: refer to commands.h. */
#include "bytes.h"
#include "commands.h"

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
    request.proximal = get_f32(payload + 36);
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
    if (!device->has_parameters || (request.proximal > 0.0f && !device->has_start)) {
        return DEVICE_WRONG_STATE;
    }
    status = training_start(&device->training, &device->model, &request);
    if (status == DEVICE_OK) {
        device->has_parameters = evaluates; /* training: until it is finished */
        open_samples(device, response);
    }
    return status;
}

device_status_t command_train(device_t *device, const uint8_t *payload, uint8_t *response)
{
    return start_phase(device, payload, response, false);
}

device_status_t command_evaluate(device_t *device, const uint8_t *payload, uint8_t *response)
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

device_status_t command_result(device_t *device, const uint8_t *payload, uint8_t *response)
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
