/* The learner: runs and trains a small neural network, one sample at a time, in a caller's memory.
 *
 * The network is data: a table of layers (learner_layer_t) and one flat vector of float parameters,
 * layer by layer the weights, then the biases. Nothing here allocates, keeps hidden state, recurses
 * or calls a library. The same files run on a Cortex-M4 and, compiled for the host, on a Raspberry
 * Pi and in the simulator; docs/numerics.md says what they compute, to the bit. They must be
 * compiled without contraction and without fast-math.
 *
 * How to use it:
 *
 *     learner_size_t size;
 *     learner_measure(layers, layer_count, &size);             how much memory it takes
 *     learner_init(&learner, layers, layer_count, LEARNER_SOFTMAX_CROSS_ENTROPY, arena, size.arena_bytes);
 *     learner_train_sample(&learner, parameters, x, t, 0.01f, LEARNER_ALL_LAYERS, &loss);   for each sample
 *     learner_predict(&learner, parameters, x, y);
 *
 * Ownership: the caller owns the learner_t, the table, the arena and the parameters. The table and the
 * arena must stay where they are, the table unchanged, as long as the learner is used; there is
 * nothing to release. The arena needs the alignment of a float. Inputs and parameters may not
 * overlap the arena.
 *
 * Re-entrancy: functions write only to the arena and to what they are given, so two threads may use
 * two learners (one table and one parameter vector for reading may be shared), not one.
 *
 * Trust: the table may come from anywhere, it is checked whole. Pointers must be valid.
 *
 * Cost: a multiply and an add per weight and output pixel to predict, about three times that to
 * train. Stack: below 1 KiB on a Cortex-M4.
 */
#ifndef TINYFLEET_LEARNER_H
#define TINYFLEET_LEARNER_H

#include <stddef.h>
#include <stdint.h>

/* Raised whenever a structure or a signature below, or a bit of any result, changes. */
#define LEARNER_ABI_VERSION 2u

/* MUST match tinyfleet/model/spec.py; tests/unit/learner/test_native.py checks it. */
#define LEARNER_MAX_LAYERS 64u
#define LEARNER_MAX_VALUES 4000000u /* of the input and of each layer's output */
#define LEARNER_MAX_PARAMETERS 16000000u
#define LEARNER_MAX_SIDE 1024u

#define LEARNER_ALL_LAYERS UINT64_MAX

typedef enum {
    LEARNER_OK = 0,
    LEARNER_BAD_LAYER = 1,       /* a layer is of no known kind or contradicts itself or its neighbour */
    LEARNER_TOO_LARGE = 2,       /* more layers, values or parameters than the bounds above allow */
    LEARNER_ARENA_TOO_SMALL = 3, /* fewer bytes than learner_measure asks for */
    LEARNER_BAD_ARGUMENT = 4,    /* an unknown loss, an arena that is not aligned, an empty phase */
    LEARNER_DIVERGED = 5         /* the loss, or an input, is not a finite number */
} learner_status_t;

/* Kinds of layers. The numbers are part of the layer table's format: never reuse one. */
enum {
    LEARNER_DENSE = 1,                 /* weights [in][out] */
    LEARNER_CONV2D = 2,                /* weights [ky][kx][in][out], zero padding */
    LEARNER_DEPTHWISE_CONV2D = 3,      /* weights [ky][kx][channel], zero padding */
    LEARNER_MAX_POOL2D = 4,            /* the first largest value wins */
    LEARNER_AVERAGE_POOL2D = 5,
    LEARNER_GLOBAL_AVERAGE_POOL2D = 6,
    LEARNER_FLATTEN = 7,               /* to (1, 1, height * width * channels) */
    LEARNER_RELU = 8,
    LEARNER_TANH = 9
};

typedef enum {
    LEARNER_MEAN_SQUARED_ERROR = 1,
    LEARNER_SOFTMAX_CROSS_ENTROPY = 2 /* targets are a distribution over the outputs */
} learner_loss_t;

/* One layer, 20 bytes, little-endian in memory and on the wire. Images are stored row by row,
 * channels last; a vector of n values is (1, 1, n). kernel and stride are 0 where the kind has
 * none, padding is 0 for all but convolutions. */
typedef struct {
    uint8_t kind;
    uint8_t kernel;
    uint8_t stride;
    uint8_t padding; /* on all four sides, below kernel */
    uint16_t in_height;
    uint16_t in_width;
    uint32_t in_channels;
    uint16_t out_height;
    uint16_t out_width;
    uint32_t out_channels;
} learner_layer_t;

/* What a network needs. Counts are of floats. */
typedef struct {
    uint32_t inputs;
    uint32_t outputs;
    uint32_t parameters;
    uint32_t arena_bytes; /* activations, two gradients and 12 bytes a layer; nothing grows with the parameters */
} learner_size_t;

/* A network in its arena. Set by learner_init, read-only afterwards. */
typedef struct {
    const learner_layer_t *layers;
    struct learner_place *places; /* at the start of the arena, one per layer */
    float *values;                /* the rest of the arena */
    uint32_t layer_count;
    uint32_t loss; /* learner_loss_t */
} learner_t;

/* Check a layer table and say what it needs. O(layers).
 * Returns LEARNER_OK, LEARNER_BAD_LAYER or LEARNER_TOO_LARGE; *size is set only when OK. */
learner_status_t learner_measure(const learner_layer_t *layers, uint32_t layer_count, learner_size_t *size);

/* Check the table as learner_measure does and lay the network out in the arena. O(layers); the
 * arena's former content does not matter. Returns in addition LEARNER_BAD_ARGUMENT and
 * LEARNER_ARENA_TOO_SMALL; *learner is usable only when OK. */
learner_status_t learner_init(learner_t *learner, const learner_layer_t *layers, uint32_t layer_count,
                              learner_loss_t loss, void *arena, size_t arena_bytes);

/* How many parameters a layer of a checked table has: weights, then biases. */
uint32_t learner_layer_parameters(const learner_layer_t *layer);

/* y[outputs] for x[inputs]; logits for a classifier. */
void learner_predict(const learner_t *learner, const float *parameters, const float *x, float *y);

/* The loss of one sample; t[outputs] is its target. */
void learner_sample_loss(const learner_t *learner, const float *parameters, const float *x, const float *t,
                         float *loss);

/* One step of online SGD: parameters <- parameters - rate * gradient of the sample's loss, for the
 * layers whose bit is set in `trainable` (bit i is layer i). *loss is the loss before the step.
 * Returns LEARNER_OK, or LEARNER_DIVERGED with the parameters untouched when the loss or a value of x is not
 * finite. */
learner_status_t learner_train_sample(const learner_t *learner, float *parameters, const float *x, const float *t,
                                      float rate, uint64_t trainable, float *loss);

/* Add the gradient of one sample's loss to gradient[parameters], for the trainable layers.
 * Returns as learner_train_sample, with the gradient untouched when diverged. */
learner_status_t learner_accumulate_gradient(const learner_t *learner, const float *parameters, const float *x,
                                             const float *t, uint64_t trainable, float *gradient, float *loss);

/* parameters <- parameters - (rate / samples) * gradient, for the trainable layers: the end of a batch. */
void learner_apply_gradient(const learner_t *learner, float *parameters, const float *gradient, uint32_t samples,
                            float rate, uint64_t trainable);

/* parameters <- parameters - step * (parameters - start), for the trainable layers: how an update of a proximal phase
 * ends, with rate * mu for the step. */
void learner_pull(const learner_t *learner, float *parameters, const float *start, float step, uint64_t trainable);

/* Whether all values are finite numbers: 1 or 0. */
uint32_t learner_all_finite(const float *values, uint32_t count);

#endif
