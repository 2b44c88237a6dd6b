/* One sample through the network: forward, loss, and back with the update on the way. */
#include "learner_internal.h"

/* What happens to the gradient of each weight: it changes the parameters at once, or adds to a batch's sum. */
typedef struct {
    float *target; /* the parameters, or the gradient of the batch */
    float rate;    /* of learning, or LEARNER_ADD */
} learner_sink_t;

static const float *output_of(const learner_t *learner, uint32_t index, const float *x)
{
    const uint32_t offset = learner->places[index].output;
    return offset == LEARNER_IS_SAMPLE ? x : learner->values + offset;
}

static const float *input_of(const learner_t *learner, uint32_t index, const float *x)
{
    return index == 0 ? x : output_of(learner, index - 1, x);
}

static void forward_layer(const learner_layer_t *layer, const float *parameters, const float *x, float *y)
{
    switch (layer->kind) {
    case LEARNER_DENSE: learner_dense_forward(layer, parameters, x, y); break;
    case LEARNER_CONV2D: learner_conv2d_forward(layer, parameters, x, y); break;
    case LEARNER_DEPTHWISE_CONV2D: learner_depthwise_forward(layer, parameters, x, y); break;
    case LEARNER_MAX_POOL2D: learner_max_pool_forward(layer, x, y); break;
    case LEARNER_AVERAGE_POOL2D: learner_average_pool_forward(layer, x, y); break;
    case LEARNER_GLOBAL_AVERAGE_POOL2D: learner_global_average_forward(layer, x, y); break;
    case LEARNER_RELU: learner_relu_forward(learner_outputs(layer), x, y); break;
    case LEARNER_TANH: learner_tanh_forward(learner_outputs(layer), x, y); break;
    default: break; /* flatten: its output is its input */
    }
}

static const float *forward(const learner_t *learner, const float *parameters, const float *x)
{
    for (uint32_t i = 0; i < learner->layer_count; i++) {
        const struct learner_place *place = &learner->places[i];
        const learner_layer_t *layer = &learner->layers[i];
        if (layer->kind != LEARNER_FLATTEN) {
            forward_layer(layer, parameters + place->parameters, input_of(learner, i, x), learner->values + place->output);
        }
    }
    return output_of(learner, learner->layer_count - 1, x);
}

static uint32_t last_outputs(const learner_t *learner)
{
    return learner_outputs(&learner->layers[learner->layer_count - 1]);
}

/* Forward and loss; leaves the gradient of the loss where the way back starts. */
static float forward_loss(const learner_t *learner, const float *parameters, const float *x, const float *t)
{
    const float *y = forward(learner, parameters, x);
    float *gradient = learner->values + learner->places[learner->layer_count - 1].gradient;
    return learner_loss(learner->loss, last_outputs(learner), y, t, gradient);
}

static void input_gradient(const learner_layer_t *layer, const float *parameters, const float *x, bool skip_zeros,
                           const float *dy, float *dx)
{
    switch (layer->kind) {
    case LEARNER_DENSE: learner_dense_input_gradient(layer, parameters, x, skip_zeros, dy, dx); break;
    case LEARNER_CONV2D: learner_conv2d_input_gradient(layer, parameters, x, skip_zeros, dy, dx); break;
    case LEARNER_DEPTHWISE_CONV2D: learner_depthwise_input_gradient(layer, parameters, dy, dx); break;
    case LEARNER_MAX_POOL2D: learner_max_pool_input_gradient(layer, x, dy, dx); break;
    case LEARNER_AVERAGE_POOL2D: learner_average_pool_input_gradient(layer, dy, dx); break;
    case LEARNER_GLOBAL_AVERAGE_POOL2D: learner_global_average_input_gradient(layer, dy, dx); break;
    default: break;
    }
}

static void learn(const learner_layer_t *layer, const learner_sink_t *sink, uint32_t start, const float *x,
                  const float *dy)
{
    float *target = sink->target + start;
    switch (layer->kind) {
    case LEARNER_DENSE: learner_dense_update(layer, target, x, dy, sink->rate); break;
    case LEARNER_CONV2D: learner_conv2d_update(layer, target, x, dy, sink->rate); break;
    case LEARNER_DEPTHWISE_CONV2D: learner_depthwise_update(layer, target, x, dy, sink->rate); break;
    default: break;
    }
}

/* Whether what comes into the layer left a ReLU, perhaps through flatten. */
static bool relu_is_below(const learner_t *learner, uint32_t index)
{
    while (index > 0 && learner->layers[index - 1].kind == LEARNER_FLATTEN) {
        index--;
    }
    return index > 0 && learner->layers[index - 1].kind == LEARNER_RELU;
}

static bool learns(const learner_t *learner, uint32_t index, uint64_t trainable)
{
    return learner_biases(&learner->layers[index]) > 0 && (trainable >> index & 1u) != 0;
}

/* The first layer that learns; layer_count when none does. */
static uint32_t lowest_learning(const learner_t *learner, uint64_t trainable)
{
    uint32_t i = 0;
    while (i < learner->layer_count && !learns(learner, i, trainable)) {
        i++;
    }
    return i;
}

/* Each layer's input gradient is taken with its old weights, then its weights may change. */
static void backward(const learner_t *learner, const float *parameters, const float *x, uint64_t trainable,
                     const learner_sink_t *sink)
{
    const uint32_t lowest = lowest_learning(learner, trainable);
    for (uint32_t above = learner->layer_count; above > lowest; above--) {
        const uint32_t i = above - 1;
        const learner_layer_t *layer = &learner->layers[i];
        const struct learner_place *place = &learner->places[i];
        const float *in = input_of(learner, i, x);
        float *dy = learner->values + place->gradient;
        if (layer->kind == LEARNER_RELU) {
            learner_relu_gradient(learner_outputs(layer), learner->values + place->output, dy);
        } else if (layer->kind == LEARNER_TANH) {
            learner_tanh_gradient(learner_outputs(layer), learner->values + place->output, dy);
        } else if (i > lowest) {
            input_gradient(layer, parameters + place->parameters, in, relu_is_below(learner, i), dy,
                           learner->values + learner->places[i - 1].gradient);
        }
        if (learns(learner, i, trainable)) {
            learn(layer, sink, place->parameters, in, dy);
        }
    }
}

/* An activation can turn an input that is not a number into one that is, so a finite loss is not enough. */
static bool is_usable(const learner_t *learner, const float *x, float loss)
{
    return learner_all_finite(&loss, 1) != 0 && learner_all_finite(x, learner_inputs(&learner->layers[0])) != 0;
}

void learner_predict(const learner_t *learner, const float *parameters, const float *x, float *y)
{
    const float *output = forward(learner, parameters, x);
    for (uint32_t i = 0; i < last_outputs(learner); i++) {
        y[i] = output[i];
    }
}

void learner_sample_loss(const learner_t *learner, const float *parameters, const float *x, const float *t,
                         float *loss)
{
    *loss = forward_loss(learner, parameters, x, t);
}

learner_status_t learner_train_sample(const learner_t *learner, float *parameters, const float *x, const float *t,
                                      float rate, uint64_t trainable, float *loss)
{
    const learner_sink_t sink = {parameters, rate};
    *loss = forward_loss(learner, parameters, x, t);
    if (!is_usable(learner, x, *loss)) {
        return LEARNER_DIVERGED;
    }
    backward(learner, parameters, x, trainable, &sink);
    return LEARNER_OK;
}

learner_status_t learner_accumulate_gradient(const learner_t *learner, const float *parameters, const float *x,
                                             const float *t, uint64_t trainable, float *gradient, float *loss)
{
    const learner_sink_t sink = {gradient, LEARNER_ADD};
    *loss = forward_loss(learner, parameters, x, t);
    if (!is_usable(learner, x, *loss)) {
        return LEARNER_DIVERGED;
    }
    backward(learner, parameters, x, trainable, &sink);
    return LEARNER_OK;
}

void learner_apply_gradient(const learner_t *learner, float *parameters, const float *gradient, uint32_t samples,
                            float rate, uint64_t trainable)
{
    const float step = rate * (1.0f / (float)samples);
    for (uint32_t i = 0; i < learner->layer_count; i++) {
        const uint32_t start = learner->places[i].parameters;
        const uint32_t count = learner_layer_parameters(&learner->layers[i]);
        if (!learns(learner, i, trainable)) {
            continue;
        }
        for (uint32_t j = start; j < start + count; j++) {
            parameters[j] = parameters[j] - step * gradient[j];
        }
    }
}

void learner_pull(const learner_t *learner, float *parameters, const float *start, float step, uint64_t trainable)
{
    for (uint32_t i = 0; i < learner->layer_count; i++) {
        const uint32_t first = learner->places[i].parameters;
        const uint32_t count = learner_weights(&learner->layers[i]) + learner_biases(&learner->layers[i]);
        if (!learns(learner, i, trainable)) {
            continue;
        }
        for (uint32_t j = first; j < first + count; j++) {
            parameters[j] = parameters[j] - step * (parameters[j] - start[j]);
        }
    }
}

LEARNER_HOT uint32_t learner_all_finite(const float *values, uint32_t count)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < count; i++) { /* to the end: without a branch this is a few vector instructions */
        const float difference = values[i] - values[i];
        bad |= difference == 0.0f ? 0u : 1u; /* infinity and NaN give NaN */
    }
    return bad == 0 ? 1u : 0u;
}
