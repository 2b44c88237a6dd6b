/* Phases on a host. The firmware does not need this file: its samples arrive one by one. */
#include "phase.h"

#include "learner_internal.h"

LEARNER_ASSERT(phase_is_32_bytes, sizeof(learner_phase_t) == 32);
LEARNER_ASSERT(outcome_is_24_bytes, sizeof(learner_outcome_t) == 24);

/* Samples as rows. */
typedef struct {
    const float *xs;
    const float *ts;
    size_t inputs;
    size_t outputs;
} rows_t;

static rows_t rows_of(const learner_t *learner, const float *xs, const float *ts)
{
    const rows_t rows = {xs, ts, learner_inputs(&learner->layers[0]),
                         learner_outputs(&learner->layers[learner->layer_count - 1])};
    return rows;
}

static void count_loss(learner_outcome_t *outcome, float loss)
{
    outcome->loss_sum += (double)loss;
    outcome->losses++;
}

static void end_update(const learner_t *learner, float *parameters, const learner_phase_t *phase, const float *start,
                       learner_outcome_t *outcome)
{
    outcome->updates++;
    if (phase->proximal > 0.0f) {
        learner_pull(learner, parameters, start, phase->rate * phase->proximal, phase->trainable);
    }
}

static learner_status_t online_pass(const learner_t *learner, float *parameters, const rows_t *rows,
                                    const learner_phase_t *phase, const float *start, learner_outcome_t *outcome)
{
    for (uint32_t i = 0; i < phase->samples; i++) {
        float loss;
        const learner_status_t status =
            learner_train_sample(learner, parameters, rows->xs + i * rows->inputs, rows->ts + i * rows->outputs,
                                 phase->rate, phase->trainable, &loss);
        count_loss(outcome, loss);
        if (status != LEARNER_OK) {
            return status;
        }
        end_update(learner, parameters, phase, start, outcome);
    }
    return LEARNER_OK;
}

static learner_status_t one_batch(const learner_t *learner, float *parameters, const rows_t *rows,
                                  const learner_phase_t *phase, const float *start, uint32_t first, uint32_t count,
                                  float *gradient, learner_outcome_t *outcome)
{
    for (uint32_t i = first; i < first + count; i++) {
        float loss;
        const learner_status_t status =
            learner_accumulate_gradient(learner, parameters, rows->xs + i * rows->inputs,
                                        rows->ts + i * rows->outputs, phase->trainable, gradient, &loss);
        count_loss(outcome, loss);
        if (status != LEARNER_OK) {
            return status;
        }
    }
    learner_apply_gradient(learner, parameters, gradient, count, phase->rate, phase->trainable);
    end_update(learner, parameters, phase, start, outcome);
    return LEARNER_OK;
}

static uint32_t parameter_count(const learner_t *learner)
{
    const uint32_t last = learner->layer_count - 1;
    return learner->places[last].parameters + learner_layer_parameters(&learner->layers[last]);
}

static learner_status_t batched_pass(const learner_t *learner, float *parameters, const rows_t *rows,
                                     const learner_phase_t *phase, const float *start, float *gradient,
                                     learner_outcome_t *outcome)
{
    const uint32_t parameters_count = parameter_count(learner);
    uint32_t count;
    for (uint32_t first = 0; first < phase->samples; first += count) {
        count = phase->samples - first < phase->batch_size ? phase->samples - first : phase->batch_size;
        for (uint32_t j = 0; j < parameters_count; j++) {
            gradient[j] = 0.0f;
        }
        const learner_status_t status =
            one_batch(learner, parameters, rows, phase, start, first, count, gradient, outcome);
        if (status != LEARNER_OK) {
            return status;
        }
    }
    return LEARNER_OK;
}

static learner_status_t all_passes(const learner_t *learner, float *parameters, const rows_t *rows,
                                   const learner_phase_t *phase, const float *start, float *gradient,
                                   learner_outcome_t *outcome)
{
    for (uint32_t pass = 0; pass < phase->passes; pass++) {
        const learner_status_t status =
            phase->batch_size == 1 ? online_pass(learner, parameters, rows, phase, start, outcome)
                                   : batched_pass(learner, parameters, rows, phase, start, gradient, outcome);
        if (status != LEARNER_OK) {
            return status;
        }
    }
    return learner_all_finite(parameters, parameter_count(learner)) != 0 ? LEARNER_OK : LEARNER_DIVERGED;
}

uint32_t learner_abi_version(void)
{
    return LEARNER_ABI_VERSION;
}

uint32_t learner_struct_bytes(void)
{
    return (uint32_t)sizeof(learner_t);
}

learner_status_t learner_train_phase(const learner_t *learner, float *parameters, const float *xs, const float *ts,
                                     const learner_phase_t *phase, const float *start, float *gradient,
                                     learner_outcome_t *outcome)
{
    const rows_t rows = rows_of(learner, xs, ts);
    const learner_outcome_t nothing = {0.0, 0, 0};
    *outcome = nothing;
    if (phase->samples < 1 || phase->batch_size < 1 || phase->passes < 1 ||
        (phase->batch_size > 1 && gradient == NULL) || (phase->proximal > 0.0f && start == NULL)) {
        return LEARNER_BAD_ARGUMENT;
    }
    return all_passes(learner, parameters, &rows, phase, start, gradient, outcome);
}

void learner_predict_all(const learner_t *learner, const float *parameters, const float *xs, uint32_t count, float *ys)
{
    const rows_t rows = rows_of(learner, xs, NULL);
    for (uint32_t i = 0; i < count; i++) {
        learner_predict(learner, parameters, xs + i * rows.inputs, ys + i * rows.outputs);
    }
}

void learner_losses_all(const learner_t *learner, const float *parameters, const float *xs, const float *ts,
                        uint32_t count, float *losses)
{
    const rows_t rows = rows_of(learner, xs, ts);
    for (uint32_t i = 0; i < count; i++) {
        learner_sample_loss(learner, parameters, xs + i * rows.inputs, ts + i * rows.outputs, &losses[i]);
    }
}
