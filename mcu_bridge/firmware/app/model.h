/* One model in the memory that a board has left: where each part lies, and whether it is all there.
 *
 * From the bottom, each rounded up to 4 bytes: the layer table, the learner's arena, one sample, the parameters, then
 * by option the start (what ENCODE compares with) and a bit a parameter, a gradient, and stored samples. The table is
 * always at the bottom, so a committed one outlives any number of CONFIGUREs; it is all that may be there without a
 * model. Nothing is configured by halves: is_configured is set last, and everything else is read only then. */
#ifndef TINYFLEET_MODEL_H
#define TINYFLEET_MODEL_H

#include "../learner/learner.h"
#include "protocol.h"

#include <stdbool.h>

/* As CONFIGURE asks; any value may come. */
typedef struct {
    uint32_t layers;
    uint32_t loss;
    uint32_t options;
    uint32_t stored_samples;
} model_request_t;

typedef struct {
    uint8_t *memory; /* aligned to 8 */
    uint64_t memory_bytes;
    bool is_configured;
    learner_t learner;
    learner_size_t size;
    float *sample; /* inputs, then targets */
    float *parameters;
    float *start;    /* NULL without DEVICE_KEEP_START */
    uint8_t *bitmap; /* likewise; (parameters + 7) / 8 bytes */
    float *gradient; /* NULL without DEVICE_GRADIENT */
    float *stored;   /* samples like `sample`, one after the other; NULL when there are none */
    uint32_t stored_samples;
} model_t;

/* What CONFIGURE answers; what is not known is 0, what a number cannot hold its largest value. */
typedef struct {
    uint32_t needed;
    uint32_t available;
    learner_size_t size;
} model_report_t;

/* No model, no table. */
void model_start(model_t *model, void *memory, uint64_t bytes);

/* A report in which only the memory is known. */
void model_report_start(const model_t *model, model_report_t *report);

/* Lay out what the table at the bottom of memory describes. The former model is gone, also when refused; the table
 * stays. The parameters are whatever was in memory. */
device_status_t model_configure(model_t *model, const model_request_t *request, model_report_t *report);

/* Floats of one sample. */
uint32_t model_sample_floats(const model_t *model);

#endif
