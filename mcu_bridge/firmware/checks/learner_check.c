/* One phase of training on a microcontroller, within the RAM it has, on a case that the host left in a file.
 *
 * case.bin:    layer count u32, loss u32, the layer table, then a phase: trainable u64, samples u32, batch size u32,
 *              passes u32, rate f32, proximal f32, 4 bytes; then the parameters, to which a proximal phase is pulled
 *              back, the inputs and the targets.
 * trained.bin: the loss of each sample as it was trained on, the parameters, then ticks u32 (see port.h, in training
 *              alone), the stack's highest u32, RAM taken u32. All little-endian.
 * Exit status: 0, 100 for a case that is cut short, refused or too large, or LEARNER_DIVERGED. */
#include "../learner/learner.h"
#include "../port/cortex_m/semihosting.h"
#include "../port/port.h"

#define REFUSED 100

typedef struct {
    uint64_t trainable;
    uint32_t samples;
    uint32_t batch_size;
    uint32_t passes;
    float rate;
    float proximal;
} phase_t;

/* Samples are read one by one, as they would arrive at a device. */
typedef struct {
    learner_t learner;
    learner_size_t size;
    phase_t phase;
    float *parameters;
    float *start;    /* a copy of the parameters for a proximal phase, else NULL */
    float *gradient; /* of a batch; NULL for online training, which has no such buffer */
    float *x;
    float *t;
    int32_t xs; /* the case, open twice: at the inputs, */
    int32_t ts; /* and at the targets */
    size_t first_x;
    int32_t out;
    uint32_t ticks;
} run_t;

typedef struct {
    uint8_t *start;
    size_t left;
} memory_t;

/* The next `bytes`, rounded up to 8; NULL when so much is not left. */
static void *take(memory_t *memory, size_t bytes)
{
    void *taken = memory->start;
    const size_t rounded = (bytes + 7u) & ~(size_t)7u;
    if (rounded < bytes || rounded > memory->left) {
        return NULL;
    }
    memory->start += rounded;
    memory->left -= rounded;
    return taken;
}

static float *take_floats(memory_t *memory, uint32_t count)
{
    return take(memory, (size_t)count * sizeof(float));
}

/* The next `bytes` of the case, in memory of their own. */
static void *load(run_t *run, memory_t *memory, size_t bytes)
{
    void *taken = take(memory, bytes);
    return taken != NULL && host_read(run->xs, taken, bytes) ? taken : NULL;
}

static bool load_network(run_t *run, memory_t *memory, size_t *at)
{
    uint32_t head[2];
    if (!host_read(run->xs, head, sizeof head) || head[0] > LEARNER_MAX_LAYERS) {
        return false;
    }
    const size_t table_bytes = head[0] * sizeof(learner_layer_t);
    const learner_layer_t *layers = load(run, memory, table_bytes);
    if (layers == NULL || learner_measure(layers, head[0], &run->size) != LEARNER_OK) {
        return false;
    }
    void *arena = take(memory, run->size.arena_bytes);
    *at = sizeof head + table_bytes;
    return arena != NULL && learner_init(&run->learner, layers, head[0], (learner_loss_t)head[1], arena,
                                         run->size.arena_bytes) == LEARNER_OK;
}

static bool load_rest(run_t *run, memory_t *memory, size_t at)
{
    const size_t parameter_bytes = run->size.parameters * sizeof(float);
    if (!host_read(run->xs, &run->phase, sizeof run->phase)) {
        return false;
    }
    run->parameters = load(run, memory, parameter_bytes);
    run->gradient = run->phase.batch_size > 1 ? take_floats(memory, run->size.parameters) : NULL;
    run->start = run->phase.proximal > 0.0f ? take_floats(memory, run->size.parameters) : NULL;
    run->x = take_floats(memory, run->size.inputs);
    run->t = take_floats(memory, run->size.outputs);
    run->first_x = at + sizeof run->phase + parameter_bytes;
    if (run->parameters == NULL || run->x == NULL || run->t == NULL || run->phase.batch_size < 1 ||
        (run->phase.batch_size > 1 && run->gradient == NULL) || (run->phase.proximal > 0.0f && run->start == NULL)) {
        return false;
    }
    for (uint32_t j = 0; run->start != NULL && j < run->size.parameters; j++) {
        run->start[j] = run->parameters[j];
    }
    return true;
}

static bool rewind_samples(const run_t *run)
{
    const size_t xs_bytes = (size_t)run->phase.samples * run->size.inputs * sizeof(float);
    return host_seek(run->xs, run->first_x) && host_seek(run->ts, run->first_x + xs_bytes);
}

static bool next_sample(const run_t *run)
{
    return host_read(run->xs, run->x, run->size.inputs * sizeof(float)) &&
           host_read(run->ts, run->t, run->size.outputs * sizeof(float));
}

/* One sample; an update without its pull when it ends a batch. `in_batch` counts it. */
static learner_status_t learn(run_t *run, uint32_t in_batch, bool ends_batch, float *loss)
{
    const phase_t *phase = &run->phase;
    learner_status_t status;
    if (phase->batch_size == 1) {
        return learner_train_sample(&run->learner, run->parameters, run->x, run->t, phase->rate, phase->trainable, loss);
    }
    for (uint32_t j = 0; in_batch == 1 && j < run->size.parameters; j++) {
        run->gradient[j] = 0.0f;
    }
    status = learner_accumulate_gradient(&run->learner, run->parameters, run->x, run->t, phase->trainable,
                                         run->gradient, loss);
    if (status == LEARNER_OK && ends_batch) {
        learner_apply_gradient(&run->learner, run->parameters, run->gradient, in_batch, phase->rate, phase->trainable);
    }
    return status;
}

static learner_status_t train(run_t *run, uint32_t in_batch, bool ends_batch, float *loss)
{
    const phase_t *phase = &run->phase;
    const learner_status_t status = learn(run, in_batch, ends_batch, loss);
    if (status == LEARNER_OK && ends_batch && run->start != NULL) {
        learner_pull(&run->learner, run->parameters, run->start, phase->rate * phase->proximal, phase->trainable);
    }
    return status;
}

/* Nothing but the training is counted: not the reading of samples, nor the writing of losses. */
static int train_counted(run_t *run, uint32_t sample)
{
    float loss;
    const uint32_t in_batch = sample % run->phase.batch_size + 1u;
    const bool ends_batch = in_batch == run->phase.batch_size || sample + 1u == run->phase.samples;
    const uint32_t before = port_ticks();
    const learner_status_t status = train(run, in_batch, ends_batch, &loss);
    run->ticks += (port_ticks() - before) & PORT_TICKS_MASK;
    return host_write(run->out, &loss, sizeof loss) ? (int)status : REFUSED;
}

static int train_all(run_t *run)
{
    for (uint32_t pass = 0; pass < run->phase.passes; pass++) {
        if (!rewind_samples(run)) {
            return REFUSED;
        }
        for (uint32_t i = 0; i < run->phase.samples; i++) {
            const int status = next_sample(run) ? train_counted(run, i) : REFUSED;
            if (status != LEARNER_OK) {
                return status;
            }
        }
    }
    return LEARNER_OK;
}

int port_main(void)
{
    run_t run = {0};
    memory_t memory;
    size_t at;
    memory.start = port_free_memory(&memory.left);
    const uint8_t *const first = memory.start;
    run.xs = host_open("case.bin", HOST_READ);
    run.ts = host_open("case.bin", HOST_READ);
    run.out = host_open("trained.bin", HOST_WRITE);
    if (run.xs < 0 || run.ts < 0 || run.out < 0 || !load_network(&run, &memory, &at) ||
        !load_rest(&run, &memory, at)) {
        return REFUSED;
    }
    const int status = train_all(&run);
    const uint32_t cost[] = {run.ticks, port_stack_used(), (uint32_t)(memory.start - first)};
    const bool written = host_write(run.out, run.parameters, run.size.parameters * sizeof(float)) &&
                         host_write(run.out, cost, sizeof cost);
    return written ? status : REFUSED;
}
