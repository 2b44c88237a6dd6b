/* Refer to model.h. Sizes are summed in 64 bits, which nothing that passes the learner's bounds can overflow. */
#include "model.h"

#include <stddef.h>

typedef char layer_is_20_bytes[sizeof(learner_layer_t) == 20 ? 1 : -1];

/* Offsets from the bottom of memory. 16 million parameters four times and a million samples of 8 million floats are
 * below 2^45. */
typedef struct {
    uint64_t arena;
    uint64_t sample;
    uint64_t parameters;
    uint64_t start;
    uint64_t bitmap;
    uint64_t gradient;
    uint64_t stored;
    uint64_t end;
} layout_t;

static uint32_t saturated(uint64_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

void model_start(model_t *model, void *memory, uint64_t bytes)
{
    model->memory = memory;
    model->memory_bytes = bytes;
    model->is_configured = false;
}

void model_report_start(const model_t *model, model_report_t *report)
{
    const model_report_t nothing = {0, saturated(model->memory_bytes), {0, 0, 0, 0}};
    *report = nothing;
}

uint32_t model_sample_floats(const model_t *model)
{
    return model->size.inputs + model->size.outputs;
}

static uint64_t bitmap_bytes(uint32_t parameters)
{
    return ((uint64_t)parameters + 7u) / 8u;
}

static uint64_t place(uint64_t *end, uint64_t bytes)
{
    const uint64_t at = *end;
    *end += (bytes + 3u) & ~(uint64_t)3u;
    return at;
}

static layout_t lay_out(const model_request_t *request, const learner_size_t *size)
{
    const uint64_t parameter_bytes = 4u * (uint64_t)size->parameters;
    const uint64_t sample_bytes = 4u * ((uint64_t)size->inputs + size->outputs);
    const bool keeps_start = (request->options & DEVICE_KEEP_START) != 0;
    layout_t layout;
    layout.end = 0;
    (void)place(&layout.end, (uint64_t)request->layers * sizeof(learner_layer_t));
    layout.arena = place(&layout.end, size->arena_bytes);
    layout.sample = place(&layout.end, sample_bytes);
    layout.parameters = place(&layout.end, parameter_bytes);
    layout.start = place(&layout.end, keeps_start ? parameter_bytes : 0u);
    layout.bitmap = place(&layout.end, keeps_start ? bitmap_bytes(size->parameters) : 0u);
    layout.gradient = place(&layout.end, (request->options & DEVICE_GRADIENT) != 0 ? parameter_bytes : 0u);
    layout.stored = place(&layout.end, request->stored_samples * sample_bytes);
    return layout;
}

static device_status_t as_device_status(learner_status_t status)
{
    switch (status) {
    case LEARNER_OK: return DEVICE_OK;
    case LEARNER_BAD_LAYER: return DEVICE_BAD_LAYER;
    case LEARNER_TOO_LARGE: return DEVICE_TOO_LARGE;
    case LEARNER_ARENA_TOO_SMALL: return DEVICE_DOES_NOT_FIT;
    default: return DEVICE_BAD_REQUEST;
    }
}

static bool request_is_valid(const model_request_t *request)
{
    return request->layers >= 1 && request->layers <= LEARNER_MAX_LAYERS &&
           (request->loss == LEARNER_MEAN_SQUARED_ERROR || request->loss == LEARNER_SOFTMAX_CROSS_ENTROPY) &&
           (request->options & ~(DEVICE_KEEP_START | DEVICE_GRADIENT)) == 0 &&
           request->stored_samples <= DEVICE_MAX_SAMPLES;
}

/* Every offset is at most `end`, which is at most memory_bytes. */
static float *floats_at(const model_t *model, uint64_t offset)
{
    return (float *)(void *)(model->memory + (size_t)offset);
}

static void set_places(model_t *model, const model_request_t *request, const layout_t *layout)
{
    const bool keeps_start = (request->options & DEVICE_KEEP_START) != 0;
    model->sample = floats_at(model, layout->sample);
    model->parameters = floats_at(model, layout->parameters);
    model->start = keeps_start ? floats_at(model, layout->start) : NULL;
    model->bitmap = keeps_start ? model->memory + (size_t)layout->bitmap : NULL;
    model->gradient = (request->options & DEVICE_GRADIENT) != 0 ? floats_at(model, layout->gradient) : NULL;
    model->stored = request->stored_samples > 0 ? floats_at(model, layout->stored) : NULL;
    model->stored_samples = request->stored_samples;
}

device_status_t model_configure(model_t *model, const model_request_t *request, model_report_t *report)
{
    const learner_layer_t *table = (const learner_layer_t *)(const void *)model->memory;
    device_status_t status;
    layout_t layout;
    model_report_start(model, report);
    model->is_configured = false;
    if (!request_is_valid(request)) {
        return DEVICE_BAD_REQUEST;
    }
    status = as_device_status(learner_measure(table, request->layers, &model->size));
    if (status != DEVICE_OK) {
        return status;
    }
    layout = lay_out(request, &model->size);
    report->size = model->size;
    report->needed = saturated(layout.end);
    if (layout.end > model->memory_bytes) {
        return DEVICE_DOES_NOT_FIT;
    }
    set_places(model, request, &layout);
    status = as_device_status(learner_init(&model->learner, table, request->layers, (learner_loss_t)request->loss,
                                           floats_at(model, layout.arena), model->size.arena_bytes));
    model->is_configured = status == DEVICE_OK;
    return status;
}
