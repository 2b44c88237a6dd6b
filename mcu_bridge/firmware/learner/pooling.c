/* Max, average and global average pooling. Windows never leave the image. */
#include "blocks.h"

/* The offset in x of the first value of the window of output pixel (oy, ox). */
static uint32_t window(const learner_layer_t *layer, uint32_t oy, uint32_t ox)
{
    return (oy * layer->stride * layer->in_width + ox * layer->stride) * layer->in_channels;
}

/* The offset of the first largest value of a window in one channel, rows top down, left to right. */
static uint32_t first_largest(const learner_layer_t *layer, const float *x, uint32_t at)
{
    uint32_t best = at;
    for (uint32_t ky = 0; ky < layer->kernel; ky++) {
        uint32_t here = at + ky * layer->in_width * layer->in_channels;
        for (uint32_t kx = 0; kx < layer->kernel; kx++, here += layer->in_channels) {
            best = x[here] > x[best] ? here : best;
        }
    }
    return best;
}

void learner_max_pool_forward(const learner_layer_t *layer, const float *x, float *y)
{
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        for (uint32_t ox = 0; ox < layer->out_width; ox++) {
            const uint32_t at = window(layer, oy, ox);
            for (uint32_t c = 0; c < layer->in_channels; c++) {
                *y++ = x[first_largest(layer, x, at + c)];
            }
        }
    }
}

void learner_max_pool_input_gradient(const learner_layer_t *layer, const float *x, const float *dy, float *dx)
{
    learner_clear(dx, learner_inputs(layer));
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        for (uint32_t ox = 0; ox < layer->out_width; ox++) {
            const uint32_t at = window(layer, oy, ox);
            for (uint32_t c = 0; c < layer->in_channels; c++) {
                dx[first_largest(layer, x, at + c)] += *dy++;
            }
        }
    }
}

static float window_sum(const learner_layer_t *layer, const float *x, uint32_t at)
{
    float sum = 0.0f;
    for (uint32_t ky = 0; ky < layer->kernel; ky++) {
        uint32_t here = at + ky * layer->in_width * layer->in_channels;
        for (uint32_t kx = 0; kx < layer->kernel; kx++, here += layer->in_channels) {
            sum += x[here];
        }
    }
    return sum;
}

void learner_average_pool_forward(const learner_layer_t *layer, const float *x, float *y)
{
    const float share = 1.0f / (float)((uint32_t)layer->kernel * layer->kernel);
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        for (uint32_t ox = 0; ox < layer->out_width; ox++) {
            const uint32_t at = window(layer, oy, ox);
            for (uint32_t c = 0; c < layer->in_channels; c++) {
                *y++ = window_sum(layer, x, at + c) * share;
            }
        }
    }
}

static void spread(const learner_layer_t *layer, float *dx, uint32_t at, float value)
{
    for (uint32_t ky = 0; ky < layer->kernel; ky++) {
        uint32_t here = at + ky * layer->in_width * layer->in_channels;
        for (uint32_t kx = 0; kx < layer->kernel; kx++, here += layer->in_channels) {
            dx[here] += value;
        }
    }
}

void learner_average_pool_input_gradient(const learner_layer_t *layer, const float *dy, float *dx)
{
    const float share = 1.0f / (float)((uint32_t)layer->kernel * layer->kernel);
    learner_clear(dx, learner_inputs(layer));
    for (uint32_t oy = 0; oy < layer->out_height; oy++) {
        for (uint32_t ox = 0; ox < layer->out_width; ox++) {
            const uint32_t at = window(layer, oy, ox);
            for (uint32_t c = 0; c < layer->in_channels; c++) {
                spread(layer, dx, at + c, *dy++ * share);
            }
        }
    }
}

void learner_global_average_forward(const learner_layer_t *layer, const float *x, float *y)
{
    const uint32_t channels = layer->in_channels;
    const uint32_t pixels = (uint32_t)layer->in_height * layer->in_width;
    const float share = 1.0f / (float)pixels;
    learner_clear(y, channels);
    for (uint32_t p = 0; p < pixels; p++, x += channels) {
        for (uint32_t c = 0; c < channels; c++) {
            y[c] += x[c];
        }
    }
    for (uint32_t c = 0; c < channels; c++) {
        y[c] = y[c] * share;
    }
}

void learner_global_average_input_gradient(const learner_layer_t *layer, const float *dy, float *dx)
{
    const uint32_t channels = layer->in_channels;
    const uint32_t pixels = (uint32_t)layer->in_height * layer->in_width;
    const float share = 1.0f / (float)pixels;
    for (uint32_t p = 0; p < pixels; p++, dx += channels) {
        for (uint32_t c = 0; c < channels; c++) {
            dx[c] = dy[c] * share;
        }
    }
}
