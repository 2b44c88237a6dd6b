/* What the learner's own files share: where a layer lies in the arena, and the functions of each kind. */
#ifndef TINYFLEET_LEARNER_INTERNAL_H
#define TINYFLEET_LEARNER_INTERNAL_H

#include "learner.h"

#include <stdbool.h>

#if defined(__FAST_MATH__) || (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0)
#error "the learner needs strict single-precision arithmetic: no -ffast-math, no x87"
#endif

/* C99 has no static_assert: an array of negative size stops the compiler. */
#define LEARNER_ASSERT(name, condition) typedef char learner_assert_##name[(condition) ? 1 : -1]

#if defined(__GNUC__)
#define LEARNER_INLINE static inline __attribute__((always_inline))
#else
#define LEARNER_INLINE static inline
#endif

/* On an x86-64 host the hot functions are compiled for several processors and the loader picks one.
 * Each does the same operations in the same order, so the choice never changes a bit. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(LEARNER_NO_CLONES)
#define LEARNER_HOT __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LEARNER_HOT
#endif

#define LEARNER_LANES 8u

/* Where a layer lies. Offsets count floats: output and gradient (of the loss by the output) from
 * learner_t.values, parameters from the start of the parameter vector. */
struct learner_place {
    uint32_t output; /* LEARNER_IS_SAMPLE: the layer hands on the caller's sample */
    uint32_t gradient;
    uint32_t parameters;
};
LEARNER_ASSERT(layer_is_20_bytes, sizeof(learner_layer_t) == 20);
LEARNER_ASSERT(place_is_12_bytes, sizeof(struct learner_place) == 12);
LEARNER_ASSERT(float_is_4_bytes, sizeof(float) == 4);

#define LEARNER_IS_SAMPLE UINT32_MAX

LEARNER_INLINE uint32_t learner_inputs(const learner_layer_t *layer)
{
    return (uint32_t)layer->in_height * layer->in_width * layer->in_channels;
}

LEARNER_INLINE uint32_t learner_outputs(const learner_layer_t *layer)
{
    return (uint32_t)layer->out_height * layer->out_width * layer->out_channels;
}

uint32_t learner_weights(const learner_layer_t *layer);
uint32_t learner_biases(const learner_layer_t *layer);

/* Whether the gradient of the layer's input takes the place of the gradient of its output. */
bool learner_is_in_place(const learner_layer_t *layer);

/* forward: y from x. input_gradient: dx from dy; where skip_zeros, dx is 0 wherever x is 0 (a ReLU
 * below discards those anyway). update: target -= rate * gradient, where target is the parameters, or a batch's
 * gradient with LEARNER_ADD for the rate. */
#define LEARNER_ADD (-1.0f) /* exact: t - (-1 * g) has the bits of t + g, also where one of them is a zero */

void learner_dense_forward(const learner_layer_t *layer, const float *parameters, const float *x, float *y);
void learner_dense_input_gradient(const learner_layer_t *layer, const float *parameters, const float *x, bool skip_zeros,
                                  const float *dy, float *dx);
void learner_dense_update(const learner_layer_t *layer, float *target, const float *x, const float *dy, float rate);

void learner_conv2d_forward(const learner_layer_t *layer, const float *parameters, const float *x, float *y);
void learner_conv2d_input_gradient(const learner_layer_t *layer, const float *parameters, const float *x, bool skip_zeros,
                                   const float *dy, float *dx);
void learner_conv2d_update(const learner_layer_t *layer, float *target, const float *x, const float *dy, float rate);

void learner_depthwise_forward(const learner_layer_t *layer, const float *parameters, const float *x, float *y);
void learner_depthwise_input_gradient(const learner_layer_t *layer, const float *parameters, const float *dy, float *dx);
void learner_depthwise_update(const learner_layer_t *layer, float *target, const float *x, const float *dy, float rate);

void learner_max_pool_forward(const learner_layer_t *layer, const float *x, float *y);
void learner_max_pool_input_gradient(const learner_layer_t *layer, const float *x, const float *dy, float *dx);
void learner_average_pool_forward(const learner_layer_t *layer, const float *x, float *y);
void learner_average_pool_input_gradient(const learner_layer_t *layer, const float *dy, float *dx);
void learner_global_average_forward(const learner_layer_t *layer, const float *x, float *y);
void learner_global_average_input_gradient(const learner_layer_t *layer, const float *dy, float *dx);

/* x and y may be the same; the gradient is changed in place and needs only the layer's output y. */
void learner_relu_forward(uint32_t count, const float *x, float *y);
void learner_relu_gradient(uint32_t count, const float *y, float *gradient);
void learner_tanh_forward(uint32_t count, const float *x, float *y);
void learner_tanh_gradient(uint32_t count, const float *y, float *gradient);

/* The loss of y against t; gradient[count] is scratch and afterwards the gradient of the loss by y. */
float learner_loss(uint32_t loss, uint32_t count, const float *y, const float *t, float *gradient);

#endif
