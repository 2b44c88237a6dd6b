/* For hosts: whole phases and whole sets of samples in one call, so that a binding crosses the border once. */
#ifndef TINYFLEET_LEARNER_PHASE_H
#define TINYFLEET_LEARNER_PHASE_H

#include "learner.h"

/* One phase of a training plan, in host order; tinyfleet/strategies/plan.py says more. */
typedef struct {
    uint64_t trainable;
    uint32_t samples;
    uint32_t batch_size; /* 1: an update after each sample; the last batch may be smaller */
    uint32_t passes;
    float rate;
    float proximal; /* mu: each update ends with learner_pull by rate * mu; 0: without it */
} learner_phase_t;

typedef struct {
    double loss_sum; /* of each sample just before its update, in order */
    uint64_t losses; /* how many were summed */
    uint64_t updates;
} learner_outcome_t;

/* LEARNER_ABI_VERSION of this library, and the sizes a binding has to reserve. */
uint32_t learner_abi_version(void);
uint32_t learner_struct_bytes(void);

/* Train on xs[samples][inputs], ts[samples][outputs], row by row, `passes` times. gradient[parameters]
 * is scratch, needed only when batch_size > 1; start[parameters] only when proximal > 0. Returns LEARNER_OK, LEARNER_DIVERGED (a loss or,
 * at the end, a parameter is not finite; the parameters are of no use) or LEARNER_BAD_ARGUMENT. */
learner_status_t learner_train_phase(const learner_t *learner, float *parameters, const float *xs, const float *ts,
                                     const learner_phase_t *phase, const float *start, float *gradient,
                                     learner_outcome_t *outcome);

/* ys[count][outputs] for xs[count][inputs]. */
void learner_predict_all(const learner_t *learner, const float *parameters, const float *xs, uint32_t count, float *ys);

/* losses[count] of xs[count][inputs] against ts[count][outputs]. */
void learner_losses_all(const learner_t *learner, const float *parameters, const float *xs, const float *ts,
                        uint32_t count, float *losses);

#endif
