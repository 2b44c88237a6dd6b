/* 2-D convolution, channels last, W[ky][kx][in][filter]. */
#include "blocks.h"

/* Output pixels, or input channels, that are summed side by side: independent sums hide the latency of the adder. */
#define TOGETHER LEARNER_TOGETHER

typedef struct {
    const learner_layer_t *layer;
    uint32_t filters;
    uint32_t channels;
    uint32_t kernel;
    uint32_t stride;
    uint32_t out_width;
    uint32_t pixels; /* of the output */
} conv_t;

LEARNER_INLINE conv_t conv_of(const learner_layer_t *layer)
{
    const conv_t conv = {layer, layer->out_channels, layer->in_channels, layer->kernel,
                         layer->stride, layer->out_width, (uint32_t)layer->out_height * layer->out_width};
    return conv;
}

/* ---- forward ---- */

/* The top left corner of an output pixel's window; negative in the padding. */
typedef struct {
    int32_t y;
    int32_t x;
} corner_t;

LEARNER_INLINE corner_t corner_of(const learner_layer_t *layer, uint32_t pixel)
{
    const corner_t corner = {(int32_t)(pixel / layer->out_width * layer->stride) - layer->padding,
                             (int32_t)(pixel % layer->out_width * layer->stride) - layer->padding};
    return corner;
}

/* The first input value under a tap; NULL outside of the image. */
LEARNER_INLINE const float *under_tap(const learner_layer_t *layer, const float *x, corner_t corner, uint32_t ky,
                                      uint32_t kx)
{
    const uint32_t row = (uint32_t)(corner.y + (int32_t)ky); /* a negative row becomes a large one */
    const uint32_t column = (uint32_t)(corner.x + (int32_t)kx);
    if (row >= layer->in_height || column >= layer->in_width) {
        return NULL;
    }
    return x + (row * layer->in_width + column) * layer->in_channels;
}

/* TOGETHER output pixels from `first` on, filters [start, start + width). A tap outside of the image reads
 * a zero again and again: that adds nothing and keeps the pixels in step. */
LEARNER_INLINE void forward_pixels(conv_t conv, const float *weights, const float *bias, const float *x, float *y,
                                   uint32_t first, uint32_t start, uint32_t width)
{
    static const float outside = 0.0f;
    float sum[TOGETHER][LEARNER_WIDEST] = {{0.0f}};
    corner_t corner[TOGETHER];
    for (uint32_t p = 0; p < TOGETHER; p++) {
        corner[p] = corner_of(conv.layer, first + p);
    }
    const float *row = weights + start;
    for (uint32_t ky = 0; ky < conv.kernel; ky++) {
        for (uint32_t kx = 0; kx < conv.kernel; kx++) {
            const float *in[TOGETHER];
            uint32_t mask[TOGETHER]; /* of the channel: all bits, or none outside */
            for (uint32_t p = 0; p < TOGETHER; p++) {
                const float *tap = under_tap(conv.layer, x, corner[p], ky, kx);
                in[p] = tap != NULL ? tap : &outside;
                mask[p] = tap != NULL ? UINT32_MAX : 0;
            }
            for (uint32_t c = 0; c < conv.channels; c++, row += conv.filters) {
                for (uint32_t p = 0; p < TOGETHER; p++) {
                    learner_add_scaled(sum[p], in[p][c & mask[p]], row, width);
                }
            }
        }
    }
    for (uint32_t p = 0; p < TOGETHER; p++) {
        learner_add_bias(y + (first + p) * conv.filters + start, sum[p], bias + start, width);
    }
}

/* One output pixel, without the taps in the padding. Along a row of a window the inputs lie one after another, and so
 * do their weights. */
LEARNER_INLINE void forward_pixel(conv_t conv, const float *weights, const float *bias, const float *x, float *y,
                                  uint32_t pixel, uint32_t start, uint32_t width)
{
    const learner_layer_t *layer = conv.layer;
    const uint32_t oy = pixel / conv.out_width;
    const uint32_t ox = pixel % conv.out_width;
    const learner_inside_t rows = learner_inside_of(layer, oy, layer->in_height);
    const learner_inside_t columns = learner_inside_of(layer, ox, layer->in_width);
    const uint32_t iy = oy * conv.stride + rows.first - layer->padding;
    const uint32_t ix = ox * conv.stride + columns.first - layer->padding;
    const uint32_t run = (columns.last - columns.first) * conv.channels;
    const uint32_t line = layer->in_width * conv.channels;
    const float *tap = weights + (rows.first * conv.kernel + columns.first) * conv.channels * conv.filters + start;
    float sum[LEARNER_WIDEST] = {0.0f};
    x += iy * line + ix * conv.channels;
    for (uint32_t ky = rows.first; ky < rows.last; ky++, x += line, tap += conv.kernel * conv.channels * conv.filters) {
        const float *row = tap;
        for (const float *in = x, *end = x + run; in < end; in++, row += conv.filters) {
            if (!learner_is_skipped(in)) {
                learner_add_scaled(sum, *in, row, width);
            }
        }
    }
    learner_add_bias(y + pixel * conv.filters + start, sum, bias + start, width);
}

LEARNER_INLINE void forward_block(conv_t conv, const float *weights, const float *x, float *y, uint32_t start,
                                  uint32_t width)
{
    const float *bias = weights + conv.kernel * conv.kernel * conv.channels * conv.filters;
    uint32_t pixel = 0;
    for (; TOGETHER > 1 && conv.pixels - pixel >= TOGETHER; pixel += TOGETHER) {
        forward_pixels(conv, weights, bias, x, y, pixel, start, width);
    }
    for (; pixel < conv.pixels; pixel++) {
        forward_pixel(conv, weights, bias, x, y, pixel, start, width);
    }
}

LEARNER_HOT void learner_conv2d_forward(const learner_layer_t *layer, const float *parameters, const float *x, float *y)
{
    const conv_t conv = conv_of(layer);
    LEARNER_IN_BLOCKS(conv.filters, start, width, forward_block(conv, parameters, x, y, start, width))
}

/* ---- gradient of the input ---- */

/* Along one side: the `count` taps that reach one input position from inside the output: first, first + stride, ...
 * `out` is the output position under the first, each next one is one less. */
typedef struct {
    uint32_t first;
    uint32_t count;
    uint32_t out;
} taps_t;

LEARNER_INLINE taps_t taps_reaching(conv_t conv, uint32_t at, uint32_t side_out)
{
    const uint32_t reach = at + conv.layer->padding;
    const uint32_t farthest = (side_out - 1u) * conv.stride; /* the last window's start */
    const uint32_t last = reach + 1u < conv.kernel ? reach + 1u : conv.kernel;
    const uint32_t nearest = reach % conv.stride;
    const uint32_t first = reach > farthest && reach - farthest > nearest ? reach - farthest : nearest;
    taps_t taps = {0, 0, 0};
    if (first < last) {
        taps.first = first;
        taps.count = (last - 1u - first) / conv.stride + 1u;
        taps.out = (reach - first) / conv.stride;
    }
    return taps;
}

/* On to the next tap, which sees the input from an output before. */
LEARNER_INLINE void next_tap(const float *row[TOGETHER], uint32_t weights, const float **dy, uint32_t outputs)
{
    for (uint32_t c = 0; c < TOGETHER; c++) {
        row[c] += weights;
    }
    *dy -= outputs;
}

/* The gradients of TOGETHER channels of one input pixel. */
LEARNER_INLINE void input_channels(conv_t conv, const float *weights, const float *dy, taps_t rows, taps_t columns,
                                   const uint32_t channel[TOGETHER], float *dx)
{
    float lanes[TOGETHER][LEARNER_LANES] = {{0.0f}};
    float sum[TOGETHER];
    const uint32_t tap_step = conv.stride * conv.channels * conv.filters;
    const uint32_t next_row = (conv.kernel - columns.count + 1u) * tap_step; /* from the last tap of a row */
    const uint32_t next_dy_row = (conv.out_width - columns.count + 1u) * conv.filters;
    const float *row[TOGETHER];
    weights += (rows.first * conv.kernel + columns.first) * conv.channels * conv.filters;
    dy += (rows.out * conv.out_width + columns.out) * conv.filters;
    for (uint32_t c = 0; c < TOGETHER; c++) {
        row[c] = weights + channel[c] * conv.filters;
    }
    for (uint32_t ky = rows.count; ky > 0; ky--) {
        for (uint32_t kx = columns.count; kx > 0; kx--) {
            learner_lanes_add(lanes, row, dy, conv.filters);
            if (kx > 1) {
                next_tap(row, tap_step, &dy, conv.filters);
            } else if (ky > 1) {
                next_tap(row, next_row, &dy, next_dy_row);
            }
        }
    }
    learner_lanes_sum(lanes, sum);
    for (uint32_t c = 0; c < TOGETHER; c++) {
        dx[channel[c]] = sum[c];
    }
}

/* Up to LEARNER_CHUNK channels of one input pixel: those that count are listed, then taken TOGETHER at a time. */
LEARNER_INLINE void input_chunk(conv_t conv, const float *weights, const float *x, bool skip_zeros, const float *dy,
                                taps_t rows, taps_t columns, uint32_t first, uint32_t end, float *dx)
{
    uint32_t channel[LEARNER_CHUNK + TOGETHER];
    const uint32_t count = learner_list_used(channel, x, skip_zeros, first, end, dx);
    for (uint32_t i = 0; i < count; i += TOGETHER) {
        input_channels(conv, weights, dy, rows, columns, channel + i, dx);
    }
}

LEARNER_HOT void learner_conv2d_input_gradient(const learner_layer_t *layer, const float *parameters, const float *x,
                                               bool skip_zeros, const float *dy, float *dx)
{
    const conv_t conv = conv_of(layer);
    for (uint32_t iy = 0; iy < layer->in_height; iy++) {
        const taps_t rows = taps_reaching(conv, iy, layer->out_height);
        for (uint32_t ix = 0; ix < layer->in_width; ix++) {
            const taps_t columns = taps_reaching(conv, ix, layer->out_width);
            for (uint32_t c = 0; c < conv.channels; c += LEARNER_CHUNK) {
                const uint32_t end = conv.channels - c < LEARNER_CHUNK ? conv.channels : c + LEARNER_CHUNK;
                input_chunk(conv, parameters, x, skip_zeros, dy, rows, columns, c, end, dx);
            }
            x += conv.channels;
            dx += conv.channels;
        }
    }
}

/* ---- gradient of the weights ---- */

/* Along one side: the output positions whose window holds tap `tap` inside the image: [first, last). */
typedef struct {
    uint32_t first;
    uint32_t last;
} reach_t;

LEARNER_INLINE reach_t reach_of_tap(const learner_layer_t *layer, uint32_t tap, uint32_t side_in, uint32_t side_out)
{
    const uint32_t stride = layer->stride;
    const uint32_t padding = layer->padding;
    reach_t reach = {0, 0};
    if (tap < padding) {
        reach.first = (padding - tap + stride - 1u) / stride;
    }
    if (side_in + padding > tap) {
        reach.last = (side_in + padding - tap - 1u) / stride + 1u;
    }
    if (reach.last > side_out) {
        reach.last = side_out;
    }
    return reach;
}

/* The weights of one tap, `count` input channels from x and dy's filters on. */
LEARNER_INLINE void tap_channels(conv_t conv, float *target, const float *x, const float *dy, reach_t rows,
                                 reach_t columns, uint32_t count, float rate, uint32_t width)
{
    const learner_layer_t *layer = conv.layer;
    float sum[TOGETHER][LEARNER_WIDEST] = {{0.0f}};
    const uint32_t step = layer->stride * conv.channels;
    for (uint32_t oy = rows.first; oy < rows.last; oy++) {
        const float *in = x + (oy - rows.first) * layer->in_width * step;
        const float *gradient = dy + (oy * layer->out_width + columns.first) * conv.filters;
        for (uint32_t left = columns.last - columns.first; left > 0; left--, in += step, gradient += conv.filters) {
            for (uint32_t c = 0; c < count; c++) {
                if (!learner_is_skipped(in + c)) {
                    learner_add_scaled(sum[c], in[c], gradient, width);
                }
            }
        }
    }
    for (uint32_t c = 0; c < count; c++) {
        learner_settle(target + c * conv.filters, sum[c], rate, width);
    }
}

LEARNER_INLINE void tap_gradient(conv_t conv, float *target, const float *x, const float *dy, uint32_t ky, uint32_t kx,
                                 float rate, uint32_t width)
{
    const learner_layer_t *layer = conv.layer;
    const reach_t rows = reach_of_tap(layer, ky, layer->in_height, layer->out_height);
    const reach_t columns = reach_of_tap(layer, kx, layer->in_width, layer->out_width);
    const uint32_t iy = rows.first * layer->stride + ky - layer->padding;
    const uint32_t ix = columns.first * layer->stride + kx - layer->padding;
    if (rows.first >= rows.last || columns.first >= columns.last) {
        return; /* the gradient is zero */
    }
    x += (iy * layer->in_width + ix) * conv.channels;
    uint32_t c = 0;
    for (; TOGETHER > 1 && c + TOGETHER <= conv.channels; c += TOGETHER) {
        tap_channels(conv, target + c * conv.filters, x + c, dy, rows, columns, TOGETHER, rate, width);
    }
    for (; c < conv.channels; c++) {
        tap_channels(conv, target + c * conv.filters, x + c, dy, rows, columns, 1u, rate, width);
    }
}

LEARNER_INLINE void weight_gradient_block(conv_t conv, float *target, const float *x, const float *dy, float rate,
                                          uint32_t start, uint32_t width)
{
    float sum[LEARNER_WIDEST] = {0.0f};
    target += start;
    dy += start;
    for (uint32_t ky = 0; ky < conv.kernel; ky++) {
        for (uint32_t kx = 0; kx < conv.kernel; kx++, target += conv.channels * conv.filters) {
            tap_gradient(conv, target, x, dy, ky, kx, rate, width);
        }
    }
    for (uint32_t p = 0; p < conv.pixels; p++, dy += conv.filters) {
        LEARNER_VECTOR
        for (uint32_t j = 0; j < width; j++) {
            sum[j] += dy[j];
        }
    }
    learner_settle(target, sum, rate, width);
}

LEARNER_HOT void learner_conv2d_update(const learner_layer_t *layer, float *target, const float *x, const float *dy,
                                       float rate)
{
    const conv_t conv = conv_of(layer);
    LEARNER_IN_BLOCKS(conv.filters, start, width, weight_gradient_block(conv, target, x, dy, rate, start, width))
}
