/* A phase of training or of evaluation as samples come: one sample a step, bit for bit what learner/phase.c does.
 *
 * A phase runs from training_start until it is FINISHED, DIVERGED, got a BAD_SAMPLE, or training_stop. While it runs,
 * the owner gives it bytes when it needs them (training_take) and steps it when it can step (training_step): it never
 * works by itself, and one step is one sample through the learner. The parameters are of use again once it is FINISHED,
 * or stopped before its first update. */
#ifndef TINYFLEET_TRAINING_H
#define TINYFLEET_TRAINING_H

#include "model.h"

/* As TRAIN and EVALUATE ask; any value may come. */
typedef struct {
    uint64_t trainable;
    uint32_t samples;
    uint32_t batch_size;
    uint32_t passes;
    float rate;
    uint8_t source;
    uint8_t input_encoding;
    uint8_t target_encoding;
    bool evaluates; /* nothing learns */
    float divisor;
    uint32_t seed;
    float proximal; /* above 0 only where the model's start is what was committed */
} training_request_t;

typedef enum { TRAINING_NONE, TRAINING_RUNNING, TRAINING_FINISHED, TRAINING_DIVERGED, TRAINING_BAD_SAMPLE } training_state_t;

/* Read-only for others. */
typedef struct {
    const model_t *model;
    training_request_t request;
    training_state_t state;
    bool diverged; /* some loss, or at the end a parameter, was not finite */
    uint32_t steps; /* samples done, each pass counting */
    uint32_t updates;
    uint32_t correct; /* of an evaluation: the first largest output is where the first largest target is */
    uint32_t crc32;   /* of all bytes taken */
    uint64_t ticks;   /* in the learner alone */
    double loss_sum;  /* in the order of the steps */
    uint32_t pass;
    uint32_t index; /* of the current sample, in its pass */
    float *sample;  /* the current one */
    uint32_t filled; /* bytes of it that have come */
    uint32_t class_index;
    bool is_complete; /* all of the current sample has come */
} training_t;

/* Begin. `model` is configured and stays so. Refusals change nothing. */
device_status_t training_start(training_t *training, const model_t *model, const training_request_t *request);

/* Forget the phase, whatever its state. */
void training_stop(training_t *training);

/* Bytes of all samples on the line; steps of a phase on the sensor. */
uint32_t training_total(const training_t *training);

/* Whether the phase cannot end without more bytes; to be asked when no step can be made. */
bool training_needs_bytes(const training_t *training);

/* Whether a step can be made now. */
bool training_can_step(const training_t *training);

/* Take the next bytes of the line, up to the end of a sample: returns how many. Only while bytes are needed and no step
 * can be made. A target that is no class ends the phase with BAD_SAMPLE. */
uint32_t training_take(training_t *training, const uint8_t *bytes, uint32_t count);

/* One sample through the learner. Only when training_can_step. */
void training_step(training_t *training);

#endif
