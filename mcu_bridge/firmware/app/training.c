/* Refer to training.h. */
#include "training.h"

#include "../link/link.h"
#include "../port/port.h"

#include <float.h>
#include <string.h>

/* ---- the request ---- */

static uint32_t input_bytes(const training_t *training)
{
    const uint32_t inputs = training->model->size.inputs;
    return training->request.input_encoding == DEVICE_INPUT_U8 ? inputs : 4u * inputs;
}

static uint32_t sample_bytes(const training_t *training)
{
    const uint32_t outputs = training->model->size.outputs;
    return input_bytes(training) + (training->request.target_encoding == DEVICE_TARGET_CLASS ? 2u : 4u * outputs);
}

/* NaN fails every comparison, so it is out of any range. */
static bool learns_in_range(const training_request_t *request)
{
    if (request->evaluates) {
        return request->trainable == 0 && request->batch_size == 1 && request->passes == 1 && request->rate == 0.0f &&
               request->proximal == 0.0f;
    }
    return request->batch_size >= 1 && request->batch_size <= request->samples && request->passes >= 1 &&
           request->passes <= DEVICE_MAX_PASSES && request->rate > 0.0f && request->rate <= DEVICE_MAX_RATE &&
           request->proximal >= 0.0f && request->proximal <= DEVICE_MAX_PROXIMAL;
}

static bool is_in_range(const training_request_t *request)
{
    return request->samples >= 1 && request->samples <= DEVICE_MAX_SAMPLES && learns_in_range(request) &&
           (uint64_t)request->samples * request->passes <= UINT32_MAX && request->source <= DEVICE_FROM_SENSOR &&
           request->input_encoding <= DEVICE_INPUT_U8 && request->target_encoding <= DEVICE_TARGET_CLASS &&
           request->divisor > 0.0f && request->divisor <= FLT_MAX;
}

/* What the model was configured for. */
static bool has_room(const model_t *model, const training_request_t *request)
{
    return (request->batch_size == 1 || model->gradient != NULL) &&
           (request->passes == 1 || request->samples <= model->stored_samples);
}

/* In passes that come again each sample has a place of its own. */
static void begin_sample(training_t *training)
{
    const model_t *model = training->model;
    const bool is_stored = training->request.passes > 1;
    training->sample =
        is_stored ? model->stored + (size_t)training->index * model_sample_floats(model) : model->sample;
    training->filled = 0;
    training->class_index = 0;
    training->is_complete = training->pass > 0;
}

device_status_t training_start(training_t *training, const model_t *model, const training_request_t *request)
{
    training_t started = {0};
    if (!is_in_range(request)) {
        return DEVICE_BAD_REQUEST;
    }
    if (!has_room(model, request)) {
        return DEVICE_WRONG_STATE;
    }
    if (request->source == DEVICE_FROM_SENSOR && !port_has_sensor()) {
        return DEVICE_NO_SENSOR;
    }
    started.model = model;
    started.request = *request;
    started.state = TRAINING_RUNNING;
    if (request->source == DEVICE_FROM_LINE && (uint64_t)request->samples * sample_bytes(&started) > UINT32_MAX) {
        return DEVICE_BAD_REQUEST;
    }
    if (request->source == DEVICE_FROM_SENSOR) {
        port_seed_sensor(request->seed);
    }
    begin_sample(&started);
    *training = started;
    return DEVICE_OK;
}

void training_stop(training_t *training)
{
    training->state = TRAINING_NONE;
}

uint32_t training_total(const training_t *training)
{
    const training_request_t *request = &training->request;
    return request->samples * (request->source == DEVICE_FROM_LINE ? sample_bytes(training) : request->passes);
}

bool training_needs_bytes(const training_t *training)
{
    return training->state == TRAINING_RUNNING && training->request.source == DEVICE_FROM_LINE && training->pass == 0;
}

bool training_can_step(const training_t *training)
{
    return training->state == TRAINING_RUNNING &&
           (training->is_complete || training->request.source == DEVICE_FROM_SENSOR);
}

/* ---- samples ---- */

static void take_input(training_t *training, const uint8_t *bytes, uint32_t count)
{
    if (training->request.input_encoding == DEVICE_INPUT_F32) {
        memcpy((uint8_t *)training->sample + training->filled, bytes, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        training->sample[training->filled + i] = (float)bytes[i] / training->request.divisor;
    }
}

static void take_target(training_t *training, const uint8_t *bytes, uint32_t count)
{
    const uint32_t at = training->filled - input_bytes(training);
    if (training->request.target_encoding == DEVICE_TARGET_F32) {
        memcpy((uint8_t *)(training->sample + training->model->size.inputs) + at, bytes, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        training->class_index |= (uint32_t)bytes[i] << 8u * (at + i);
    }
}

static void complete_sample(training_t *training)
{
    const uint32_t outputs = training->model->size.outputs;
    float *target = training->sample + training->model->size.inputs;
    if (training->request.target_encoding == DEVICE_TARGET_CLASS) {
        if (training->class_index >= outputs) {
            training->state = TRAINING_BAD_SAMPLE;
            return;
        }
        memset(target, 0, (size_t)outputs * sizeof(float));
        target[training->class_index] = 1.0f;
    }
    training->is_complete = true;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t training_take(training_t *training, const uint8_t *bytes, uint32_t count)
{
    const uint32_t inputs_end = input_bytes(training);
    const uint32_t sample_end = sample_bytes(training);
    uint32_t taken = 0;
    if (training->filled < inputs_end) {
        taken = smaller(count, inputs_end - training->filled);
        take_input(training, bytes, taken);
        training->filled += taken;
    }
    if (training->filled >= inputs_end) {
        const uint32_t of_target = smaller(count - taken, sample_end - training->filled);
        take_target(training, bytes + taken, of_target);
        training->filled += of_target;
        taken += of_target;
    }
    training->crc32 = link_crc32(training->crc32, bytes, taken);
    if (training->filled == sample_end) {
        complete_sample(training);
    }
    return taken;
}

/* ---- steps ---- */

/* The first largest; not a number is never larger. */
static uint32_t first_largest(const float *values, uint32_t count)
{
    uint32_t largest = 0;
    for (uint32_t i = 1; i < count; i++) {
        largest = values[i] > values[largest] ? i : largest;
    }
    return largest;
}

/* The outputs take the place of the target, which is not needed any more. */
static learner_status_t evaluate(training_t *training, float *loss)
{
    const model_t *model = training->model;
    float *target = training->sample + model->size.inputs;
    const uint32_t wanted = first_largest(target, model->size.outputs);
    learner_sample_loss(&model->learner, model->parameters, training->sample, target, loss);
    learner_predict(&model->learner, model->parameters, training->sample, target);
    training->correct += first_largest(target, model->size.outputs) == wanted ? 1u : 0u;
    training->diverged = training->diverged || learner_all_finite(loss, 1) == 0;
    return LEARNER_OK;
}

static void end_update(training_t *training)
{
    const model_t *model = training->model;
    const training_request_t *request = &training->request;
    training->updates++;
    if (request->proximal > 0.0f) {
        learner_pull(&model->learner, model->parameters, model->start, request->rate * request->proximal,
                     request->trainable);
    }
}

static learner_status_t train_online(training_t *training, float *loss)
{
    const model_t *model = training->model;
    const learner_status_t status =
        learner_train_sample(&model->learner, model->parameters, training->sample, training->sample + model->size.inputs,
                             training->request.rate, training->request.trainable, loss);
    if (status == LEARNER_OK) {
        end_update(training);
    }
    return status;
}

static learner_status_t train_in_batch(training_t *training, float *loss)
{
    const model_t *model = training->model;
    const training_request_t *request = &training->request;
    const uint32_t in_batch = training->index % request->batch_size + 1u;
    const bool ends_batch = in_batch == request->batch_size || training->index + 1u == request->samples;
    learner_status_t status;
    if (in_batch == 1) {
        memset(model->gradient, 0, (size_t)model->size.parameters * sizeof(float));
    }
    status = learner_accumulate_gradient(&model->learner, model->parameters, training->sample,
                                         training->sample + model->size.inputs, request->trainable, model->gradient, loss);
    if (status == LEARNER_OK && ends_batch) {
        learner_apply_gradient(&model->learner, model->parameters, model->gradient, in_batch, request->rate,
                               request->trainable);
        end_update(training);
    }
    return status;
}

static learner_status_t work_on_sample(training_t *training, float *loss)
{
    if (training->request.evaluates) {
        return evaluate(training, loss);
    }
    return training->request.batch_size == 1 ? train_online(training, loss) : train_in_batch(training, loss);
}

static void diverge(training_t *training)
{
    training->diverged = true;
    training->state = TRAINING_DIVERGED;
}

static void finish(training_t *training)
{
    const model_t *model = training->model;
    if (!training->request.evaluates && learner_all_finite(model->parameters, model->size.parameters) == 0) {
        diverge(training);
    } else {
        training->state = TRAINING_FINISHED;
    }
}

static void next_sample(training_t *training)
{
    training->index++;
    if (training->index == training->request.samples) {
        training->index = 0;
        training->pass++;
    }
    if (training->pass == training->request.passes) {
        finish(training);
    } else {
        begin_sample(training);
    }
}

void training_step(training_t *training)
{
    const learner_size_t *size = &training->model->size;
    learner_status_t status;
    uint64_t before;
    float loss;
    if (!training->is_complete) {
        port_read_sample(training->sample, size->inputs, training->sample + size->inputs, size->outputs);
    }
    before = port_ticks64();
    status = work_on_sample(training, &loss);
    training->ticks += port_ticks64() - before;
    training->loss_sum += (double)loss;
    training->steps++;
    if (status == LEARNER_OK) {
        next_sample(training);
    } else {
        diverge(training);
    }
}
