/* Dense layer: y = x W + b with W[in][out]. */
#include "blocks.h"

LEARNER_INLINE void forward_block(const learner_layer_t *layer, const float *parameters, const float *x, float *y,
                                  uint32_t start, uint32_t width)
{
    const uint32_t outputs = layer->out_channels;
    const float *row = parameters + start;
    const float *bias = parameters + layer->in_channels * outputs + start;
    float sum[LEARNER_WIDEST] = {0.0f};
    for (uint32_t i = 0; i < layer->in_channels; i++, row += outputs) {
        if (x[i] != 0.0f) {
            learner_add_scaled(sum, x[i], row, width);
        }
    }
    learner_add_bias(y + start, sum, bias, width);
}

LEARNER_HOT void learner_dense_forward(const learner_layer_t *layer, const float *parameters, const float *x, float *y)
{
    LEARNER_IN_BLOCKS(layer->out_channels, start, width, forward_block(layer, parameters, x, y, start, width))
}

LEARNER_INLINE void input_group(const float *weights, uint32_t outputs, const float *dy,
                                const uint32_t index[LEARNER_TOGETHER], float *dx)
{
    float lanes[LEARNER_TOGETHER][LEARNER_LANES] = {{0.0f}};
    float sum[LEARNER_TOGETHER];
    const float *row[LEARNER_TOGETHER];
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        row[r] = weights + index[r] * outputs;
    }
    learner_lanes_add(lanes, row, dy, outputs);
    learner_lanes_sum(lanes, sum);
    for (uint32_t r = 0; r < LEARNER_TOGETHER; r++) {
        dx[index[r]] = sum[r];
    }
}

/* Inputs [first, end): those that count are listed, then taken LEARNER_TOGETHER at a time. */
LEARNER_INLINE void input_chunk(const float *weights, uint32_t outputs, const float *x, bool skip_zeros,
                                const float *dy, uint32_t first, uint32_t end, float *dx)
{
    uint32_t index[LEARNER_CHUNK + LEARNER_TOGETHER];
    const uint32_t count = learner_list_used(index, x, skip_zeros, first, end, dx);
    for (uint32_t i = 0; i < count; i += LEARNER_TOGETHER) {
        input_group(weights, outputs, dy, index + i, dx);
    }
}

LEARNER_HOT void learner_dense_input_gradient(const learner_layer_t *layer, const float *parameters, const float *x,
                                              bool skip_zeros, const float *dy, float *dx)
{
    const uint32_t inputs = layer->in_channels;
    for (uint32_t first = 0; first < inputs; first += LEARNER_CHUNK) {
        const uint32_t end = inputs - first < LEARNER_CHUNK ? inputs : first + LEARNER_CHUNK;
        input_chunk(parameters, layer->out_channels, x, skip_zeros, dy, first, end, dx);
    }
}

LEARNER_HOT void learner_dense_update(const learner_layer_t *layer, float *target, const float *x, const float *dy,
                                      float rate)
{
    const uint32_t outputs = layer->out_channels;
    float *restrict row = target;
    for (uint32_t i = 0; i < layer->in_channels; i++, row += outputs) {
        const float step = rate * x[i];
        if (x[i] == 0.0f) {
            continue;
        }
        learner_descend(row, dy, step, outputs);
    }
    learner_descend(row, dy, rate, outputs);
}
