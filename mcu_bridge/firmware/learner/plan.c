/* Checking a layer table, and laying the network out in the arena. */
#include "learner_internal.h"

static bool has_weights(const learner_layer_t *layer)
{
    return layer->kind == LEARNER_DENSE || layer->kind == LEARNER_CONV2D || layer->kind == LEARNER_DEPTHWISE_CONV2D;
}

uint32_t learner_weights(const learner_layer_t *layer)
{
    const uint32_t taps = (uint32_t)layer->kernel * layer->kernel;
    switch (layer->kind) {
    case LEARNER_DENSE: return layer->in_channels * layer->out_channels;
    case LEARNER_CONV2D: return taps * layer->in_channels * layer->out_channels;
    case LEARNER_DEPTHWISE_CONV2D: return taps * layer->in_channels;
    default: return 0;
    }
}

uint32_t learner_biases(const learner_layer_t *layer)
{
    return has_weights(layer) ? layer->out_channels : 0;
}

uint32_t learner_layer_parameters(const learner_layer_t *layer)
{
    return learner_weights(layer) + learner_biases(layer);
}

bool learner_is_in_place(const learner_layer_t *layer)
{
    return layer->kind == LEARNER_FLATTEN || layer->kind == LEARNER_RELU || layer->kind == LEARNER_TANH;
}

/* ---- checking ---- */

static bool shape_is_bounded(uint32_t height, uint32_t width, uint32_t channels)
{
    if (height < 1 || width < 1 || channels < 1 || height > LEARNER_MAX_SIDE || width > LEARNER_MAX_SIDE) {
        return false;
    }
    return channels <= LEARNER_MAX_VALUES / (height * width);
}

static bool output_is(const learner_layer_t *layer, uint32_t height, uint32_t width, uint32_t channels)
{
    return layer->out_height == height && layer->out_width == width && layer->out_channels == channels;
}

static bool windows_match(const learner_layer_t *layer, uint32_t channels)
{
    const uint32_t border = 2u * layer->padding;
    if (layer->kernel < 1 || layer->stride < 1 || layer->padding >= layer->kernel) {
        return false;
    }
    if (layer->in_height + border < layer->kernel || layer->in_width + border < layer->kernel) {
        return false;
    }
    return output_is(layer, (layer->in_height + border - layer->kernel) / layer->stride + 1u,
                     (layer->in_width + border - layer->kernel) / layer->stride + 1u, channels);
}

static bool kind_matches_shapes(const learner_layer_t *layer)
{
    const bool has_window = layer->kernel != 0 || layer->stride != 0 || layer->padding != 0;
    switch (layer->kind) {
    case LEARNER_DENSE:
        return !has_window && layer->in_height == 1 && layer->in_width == 1 &&
               output_is(layer, 1, 1, layer->out_channels);
    case LEARNER_CONV2D: return windows_match(layer, layer->out_channels);
    case LEARNER_DEPTHWISE_CONV2D: return windows_match(layer, layer->in_channels);
    case LEARNER_MAX_POOL2D:
    case LEARNER_AVERAGE_POOL2D: return layer->padding == 0 && windows_match(layer, layer->in_channels);
    case LEARNER_GLOBAL_AVERAGE_POOL2D: return !has_window && output_is(layer, 1, 1, layer->in_channels);
    case LEARNER_FLATTEN: return !has_window && output_is(layer, 1, 1, learner_inputs(layer));
    case LEARNER_RELU:
    case LEARNER_TANH:
        return !has_window && output_is(layer, layer->in_height, layer->in_width, layer->in_channels);
    default: return false;
    }
}

static bool follows(const learner_layer_t *layer, const learner_layer_t *below)
{
    return layer->in_height == below->out_height && layer->in_width == below->out_width &&
           layer->in_channels == below->out_channels;
}

/* Whether the weights and biases stay within `room`; the bounds on shapes keep the products below 2^64. */
static bool parameters_fit(const learner_layer_t *layer, uint32_t room)
{
    uint64_t weights = 0;
    if (layer->kind == LEARNER_DENSE) {
        weights = (uint64_t)layer->in_channels * layer->out_channels;
    } else if (has_weights(layer)) {
        weights = (uint64_t)layer->kernel * layer->kernel * layer->in_channels;
        weights *= layer->kind == LEARNER_CONV2D ? layer->out_channels : 1u;
    }
    return weights + learner_biases(layer) <= room;
}

static learner_status_t check(const learner_layer_t *layers, uint32_t layer_count, uint32_t *parameters)
{
    *parameters = 0;
    if (layer_count < 1) {
        return LEARNER_BAD_LAYER;
    }
    if (layer_count > LEARNER_MAX_LAYERS) {
        return LEARNER_TOO_LARGE;
    }
    for (uint32_t i = 0; i < layer_count; i++) {
        const learner_layer_t *layer = &layers[i];
        if (!shape_is_bounded(layer->in_height, layer->in_width, layer->in_channels) ||
            !shape_is_bounded(layer->out_height, layer->out_width, layer->out_channels)) {
            return LEARNER_TOO_LARGE;
        }
        if (!kind_matches_shapes(layer) || (i > 0 && !follows(layer, &layers[i - 1]))) {
            return LEARNER_BAD_LAYER;
        }
        if (!parameters_fit(layer, LEARNER_MAX_PARAMETERS - *parameters)) {
            return LEARNER_TOO_LARGE;
        }
        *parameters += learner_layer_parameters(layer);
    }
    return *parameters > 0 ? LEARNER_OK : LEARNER_BAD_LAYER;
}

/* ---- the arena ----
 *
 * Outputs are a stack from the bottom up. Flatten takes no room. An activation overwrites what is
 * below it, unless that is the caller's sample or another activation's output, which the way back
 * still needs.
 *
 * The way back needs the outputs up to the layer it has reached and two gradients. Each gradient lies
 * above the outputs that are still needed when it is written; they alternate between the low end of
 * the free room and the end of the arena, so that two in a row never meet. */

static void place_outputs(const learner_layer_t *layers, uint32_t layer_count, uint32_t output[], uint32_t top[])
{
    uint32_t below = LEARNER_IS_SAMPLE;
    bool overwritable = false;
    uint32_t end = 0;
    for (uint32_t i = 0; i < layer_count; i++) {
        const learner_layer_t *layer = &layers[i];
        const bool activation = learner_is_in_place(layer) && layer->kind != LEARNER_FLATTEN;
        if (layer->kind != LEARNER_FLATTEN && !(activation && overwritable)) {
            below = end;
            end += learner_outputs(layer);
        }
        if (layer->kind != LEARNER_FLATTEN) {
            overwritable = !activation;
        }
        output[i] = below;
        top[i] = end;
    }
}

static uint32_t lowest_with_weights(const learner_layer_t *layers)
{
    uint32_t i = 0;
    while (!has_weights(&layers[i])) {
        i++;
    }
    return i;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The floats the arena needs when the first (the last layer's) gradient lies low or high. */
static uint32_t values_needed(const learner_layer_t *layers, uint32_t layer_count, const uint32_t top[], bool low)
{
    const uint32_t lowest = lowest_with_weights(layers);
    uint32_t floor = top[layer_count - 1];
    uint32_t size = learner_outputs(&layers[layer_count - 1]);
    uint32_t needed = floor + size;
    for (uint32_t i = layer_count - 1; i > lowest; i--) {
        if (learner_is_in_place(&layers[i])) {
            continue;
        }
        const uint32_t below = learner_inputs(&layers[i]);
        needed = larger(needed, (low ? floor : top[i - 1]) + size + below);
        floor = top[i - 1];
        size = below;
        low = !low;
    }
    return needed;
}

static void place_gradients(const learner_layer_t *layers, uint32_t layer_count, const uint32_t top[], bool low,
                            uint32_t values, struct learner_place *places)
{
    const uint32_t lowest = lowest_with_weights(layers);
    uint32_t i = layer_count - 1;
    uint32_t at = low ? top[i] : values - learner_outputs(&layers[i]);
    places[i].gradient = at;
    for (; i > lowest; i--) {
        if (!learner_is_in_place(&layers[i])) {
            low = !low;
            at = low ? top[i - 1] : values - learner_inputs(&layers[i]);
        }
        places[i - 1].gradient = at;
    }
    for (; i > 0; i--) {
        places[i - 1].gradient = 0; /* never used: nothing below learns */
    }
}

static uint32_t arena_bytes_for(uint32_t layer_count, uint32_t values)
{
    return layer_count * (uint32_t)sizeof(struct learner_place) + values * (uint32_t)sizeof(float);
}

/* 64 layers of 4,000,000 values and two gradients stay below 2^32 bytes, so no sum can overflow. */
LEARNER_ASSERT(arena_bytes_fit_32_bits, (LEARNER_MAX_LAYERS + 2u) * (uint64_t)LEARNER_MAX_VALUES * 4u < UINT32_MAX);

learner_status_t learner_measure(const learner_layer_t *layers, uint32_t layer_count, learner_size_t *size)
{
    uint32_t parameters;
    uint32_t output[LEARNER_MAX_LAYERS];
    uint32_t top[LEARNER_MAX_LAYERS];
    const learner_status_t status = check(layers, layer_count, &parameters);
    if (status != LEARNER_OK) {
        return status;
    }
    place_outputs(layers, layer_count, output, top);
    const uint32_t if_low = values_needed(layers, layer_count, top, true);
    const uint32_t if_high = values_needed(layers, layer_count, top, false);
    size->inputs = learner_inputs(&layers[0]);
    size->outputs = learner_outputs(&layers[layer_count - 1]);
    size->parameters = parameters;
    size->arena_bytes = arena_bytes_for(layer_count, if_low <= if_high ? if_low : if_high);
    return LEARNER_OK;
}

static void lay_out(learner_t *learner)
{
    const learner_layer_t *layers = learner->layers;
    const uint32_t count = learner->layer_count;
    uint32_t output[LEARNER_MAX_LAYERS];
    uint32_t top[LEARNER_MAX_LAYERS];
    uint32_t parameters = 0;
    place_outputs(layers, count, output, top);
    for (uint32_t i = 0; i < count; i++) {
        learner->places[i].output = output[i];
        learner->places[i].parameters = parameters;
        parameters += learner_layer_parameters(&layers[i]);
    }
    const uint32_t if_low = values_needed(layers, count, top, true);
    const uint32_t if_high = values_needed(layers, count, top, false);
    const bool low = if_low <= if_high;
    place_gradients(layers, count, top, low, low ? if_low : if_high, learner->places);
}

learner_status_t learner_init(learner_t *learner, const learner_layer_t *layers, uint32_t layer_count,
                              learner_loss_t loss, void *arena, size_t arena_bytes)
{
    learner_size_t size;
    const learner_status_t status = learner_measure(layers, layer_count, &size);
    if (status != LEARNER_OK) {
        return status;
    }
    if (loss != LEARNER_MEAN_SQUARED_ERROR && loss != LEARNER_SOFTMAX_CROSS_ENTROPY) {
        return LEARNER_BAD_ARGUMENT;
    }
    if ((uintptr_t)arena % sizeof(float) != 0) {
        return LEARNER_BAD_ARGUMENT;
    }
    if (arena_bytes < size.arena_bytes) {
        return LEARNER_ARENA_TOO_SMALL;
    }
    learner->layers = layers;
    learner->layer_count = layer_count;
    learner->loss = (uint32_t)loss;
    learner->places = (struct learner_place *)arena;
    learner->values = (float *)(void *)(learner->places + layer_count);
    lay_out(learner);
    return LEARNER_OK;
}
