/* Depthwise 2-D convolution: one filter per channel, W[ky][kx][channel]. */
#include "blocks.h"

/* The first channel of the input pixel under tap (ky, kx) of output pixel (oy, ox). */
LEARNER_INLINE uint32_t under_tap(const learner_layer_t *layer, uint32_t oy, uint32_t ox, uint32_t ky, uint32_t kx)
{
    const uint32_t row = oy * layer->stride + ky - layer->padding;
    const uint32_t column = ox * layer->stride + kx - layer->padding;
    return (row * layer->in_width + column) * layer->in_channels;
}

LEARNER_INLINE void forward_block(const learner_layer_t *layer, const float *weights, const float *bias, const float *x,
                                  float *y, uint32_t oy, uint32_t ox, uint32_t start, uint32_t width)
{
    const learner_inside_t rows = learner_inside_of(layer, oy, layer->in_height);
    const learner_inside_t columns = learner_inside_of(layer, ox, layer->in_width);
    float sum[LEARNER_WIDEST] = {0.0f};
    for (uint32_t ky = rows.first; ky < rows.last; ky++) {
        for (uint32_t kx = columns.first; kx < columns.last; kx++) {
            const float *in = x + under_tap(layer, oy, ox, ky, kx) + start;
            const float *tap = weights + (ky * layer->kernel + kx) * layer->in_channels + start;
            LEARNER_VECTOR
            for (uint32_t j = 0; j < width; j++) {
                sum[j] += in[j] * tap[j];
            }
        }
    }
    learner_add_bias(y + start, sum, bias + start, width);
}

LEARNER_HOT void learner_depthwise_forward(const learner_layer_t *layer, const float *parameters, const float *x,
                                           float *y)
{
    const float *bias = parameters + (uint32_t)layer->kernel * layer->kernel * layer->in_channels;
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        for (uint32_t ox = 0; ox < layer->out_width; ox++, y += layer->out_channels) {
            LEARNER_IN_BLOCKS(layer->out_channels, start, width,
                              forward_block(layer, parameters, bias, x, y, oy, ox, start, width))
        }
    }
}

/* Tap by tap, so that every input value gathers its terms in the order ky, kx. */
LEARNER_HOT void learner_depthwise_input_gradient(const learner_layer_t *layer, const float *parameters,
                                                  const float *dy, float *restrict dx)
{
    const uint32_t channels = layer->in_channels;
    learner_clear(dx, learner_inputs(layer));
    for (uint32_t tap = 0; tap < (uint32_t)layer->kernel * layer->kernel; tap++, parameters += channels) {
        const uint32_t ky = tap / layer->kernel;
        const uint32_t kx = tap % layer->kernel;
        for (uint32_t pixel = 0; pixel < (uint32_t)layer->out_height * layer->out_width; pixel++) {
            const uint32_t oy = pixel / layer->out_width;
            const uint32_t ox = pixel % layer->out_width;
            const learner_inside_t rows = learner_inside_of(layer, oy, layer->in_height);
            const learner_inside_t columns = learner_inside_of(layer, ox, layer->in_width);
            if (ky < rows.first || ky >= rows.last || kx < columns.first || kx >= columns.last) {
                continue;
            }
            float *in = dx + under_tap(layer, oy, ox, ky, kx);
            for (uint32_t c = 0; c < channels; c++) {
                in[c] += parameters[c] * dy[pixel * channels + c];
            }
        }
    }
}

/* The gradient of one tap, or of the biases where `tap` is kernel * kernel. */
LEARNER_INLINE void tap_block(const learner_layer_t *layer, float *target, const float *x, const float *dy,
                              uint32_t tap, float rate, uint32_t start, uint32_t width)
{
    const bool is_bias = tap == (uint32_t)layer->kernel * layer->kernel;
    const uint32_t ky = tap / layer->kernel;
    const uint32_t kx = tap % layer->kernel;
    float sum[LEARNER_WIDEST] = {0.0f};
    const float *gradient = dy + start;
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        const learner_inside_t rows = learner_inside_of(layer, oy, layer->in_height);
        for (uint32_t ox = 0; ox < layer->out_width; ox++, gradient += layer->out_channels) {
            const learner_inside_t columns = learner_inside_of(layer, ox, layer->in_width);
            if (is_bias) {
                LEARNER_VECTOR
                for (uint32_t j = 0; j < width; j++) {
                    sum[j] += gradient[j];
                }
            } else if (ky >= rows.first && ky < rows.last && kx >= columns.first && kx < columns.last) {
                const float *in = x + under_tap(layer, oy, ox, ky, kx) + start;
                LEARNER_VECTOR
                for (uint32_t j = 0; j < width; j++) {
                    sum[j] += in[j] * gradient[j];
                }
            }
        }
    }
    learner_settle(target + tap * layer->in_channels + start, sum, rate, width);
}

LEARNER_HOT void learner_depthwise_update(const learner_layer_t *layer, float *target, const float *x, const float *dy,
                                          float rate)
{
    for (uint32_t tap = 0; tap <= (uint32_t)layer->kernel * layer->kernel; tap++) {
        LEARNER_IN_BLOCKS(layer->in_channels, start, width, tap_block(layer, target, x, dy, tap, rate, start, width))
    }
}
