/* The learner as a program, to run under an emulator: one phase from stdin, what came out on stdout.
 *
 * In:  layer count u32, loss u32, the layer table, learner_phase_t, the parameters, the inputs and the targets. A proximal
 *      phase is pulled back to those parameters.
 * Out: learner_outcome_t, the parameters. All as in memory on a little-endian machine.
 * Exit status: what learner_train_phase returned, or 100 for input that is cut short or refused. */
#include "phase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int condition)
{
    if (!condition) {
        exit(100);
    }
}

/* The next `count` items of stdin, or so much zeroed memory where `file` is NULL; exit returns the memory. */
static void *items(FILE *file, size_t count, size_t size)
{
    void *memory = calloc(count, size);
    require(memory != NULL);
    require(file == NULL || fread(memory, size, count, file) == count);
    return memory;
}

int main(void)
{
    const uint32_t *head = items(stdin, 2, sizeof(uint32_t));
    const learner_layer_t *layers = items(stdin, head[0], sizeof(learner_layer_t));
    const learner_phase_t *phase = items(stdin, 1, sizeof(learner_phase_t));
    learner_size_t size;
    require(learner_measure(layers, head[0], &size) == LEARNER_OK);
    float *parameters = items(stdin, size.parameters, sizeof(float));
    const float *xs = items(stdin, (size_t)phase->samples * size.inputs, sizeof(float));
    const float *ts = items(stdin, (size_t)phase->samples * size.outputs, sizeof(float));
    void *arena = items(NULL, size.arena_bytes, 1);
    float *gradient = items(NULL, size.parameters, sizeof(float));
    float *start = items(NULL, size.parameters, sizeof(float));
    memcpy(start, parameters, size.parameters * sizeof(float));

    learner_t learner;
    learner_outcome_t outcome;
    require(learner_init(&learner, layers, head[0], (learner_loss_t)head[1], arena, size.arena_bytes) == LEARNER_OK);
    const learner_status_t status =
        learner_train_phase(&learner, parameters, xs, ts, phase, start, gradient, &outcome);
    require(fwrite(&outcome, sizeof outcome, 1, stdout) == 1);
    require(fwrite(parameters, sizeof(float), size.parameters, stdout) == size.parameters);
    require(fflush(stdout) == 0);
    return (int)status;
}
