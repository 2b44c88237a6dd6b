/* ENCODE: refer to commands.h. What training changed, as the bytes of an update, made over the copy of the start. */
#include "../port/port.h"
#include "bytes.h"
#include "commands.h"

#include <math.h>

typedef struct {
    uint64_t layers; /* bit i: of layer i is sent */
    uint32_t entries;
    uint32_t precision;
    pcg64_t noise;
} encode_request_t;

static encode_request_t read_request(const uint8_t *payload)
{
    const encode_request_t request = {
        get_u64(payload),
        get_u32(payload + 8),
        payload[12],
        {get_u64(payload + 16), get_u64(payload + 24), get_u64(payload + 32), get_u64(payload + 40)},
    };
    return request;
}

static uint32_t sent_parameters(const learner_t *learner, uint64_t layers)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < learner->layer_count; i++) {
        count += (layers >> i & 1u) != 0 ? learner_layer_parameters(&learner->layers[i]) : 0u;
    }
    return count;
}

/* Over the start: the changes of those layers, one after the other. Returns the sum of the squares of all changes. */
static float gather_changes(const model_t *model, uint64_t layers)
{
    const learner_t *learner = &model->learner;
    float squares = 0.0f;
    uint32_t sent = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < learner->layer_count; i++) {
        const uint32_t end = at + learner_layer_parameters(&learner->layers[i]);
        for (; at < end; at++) {
            const float change = model->parameters[at] - model->start[at];
            squares += change * change;
            if ((layers >> i & 1u) != 0) {
                model->start[sent++] = change;
            }
        }
    }
    return squares;
}

device_status_t command_encode(device_t *device, const uint8_t *payload, uint8_t *response)
{
    const model_t *model = &device->model;
    const uint64_t began = port_ticks64();
    encode_request_t request = read_request(payload);
    uint32_t count;
    float squares;
    if (!device->has_parameters || !device->has_start) {
        return DEVICE_WRONG_STATE;
    }
    count = sent_parameters(&model->learner, request.layers);
    if (request.entries < 1 || request.entries > count || request.precision > VALUES_INT8 || payload[13] != 0 ||
        payload[14] != 0 || payload[15] != 0) {
        return DEVICE_BAD_REQUEST;
    }
    device->has_start = false;
    squares = gather_changes(model, request.layers);
    if (isfinite(squares)) {
        update_encode(&device->update, model->start, count, request.entries, (values_precision_t)request.precision,
                      &request.noise, model->bitmap);
    }
    put_u32(response + 4, device->update.bytes);
    put_f32(response + 8, squares);
    put_u64(response + 12, port_ticks64() - began);
    return DEVICE_OK;
}
