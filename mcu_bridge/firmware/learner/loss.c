/* The two losses and their gradients. */
#include "elementary.h"

static float mean_squared_error(uint32_t count, const float *y, const float *t, float *gradient)
{
    const float share = 1.0f / (float)count;
    const float slope = 2.0f / (float)count;
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        const float error = y[i] - t[i];
        sum += error * error;
        gradient[i] = slope * error;
    }
    return sum * share;
}

static float largest(uint32_t count, const float *y)
{
    float value = y[0];
    for (uint32_t i = 1; i < count; i++) {
        value = y[i] > value ? y[i] : value;
    }
    return value;
}

static float softmax_cross_entropy(uint32_t count, const float *y, const float *t, float *gradient)
{
    const float top = largest(count, y);
    float sum = 0.0f;
    float loss = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        gradient[i] = learner_exp(y[i] - top);
        sum += gradient[i];
    }
    const float log_sum = learner_log(sum);
    for (uint32_t i = 0; i < count; i++) {
        loss += t[i] * (log_sum - (y[i] - top));
        gradient[i] = gradient[i] / sum - t[i];
    }
    return loss;
}

float learner_loss(uint32_t loss, uint32_t count, const float *y, const float *t, float *gradient)
{
    if (loss == LEARNER_MEAN_SQUARED_ERROR) {
        return mean_squared_error(count, y, t, gradient);
    }
    return softmax_cross_entropy(count, y, t, gradient);
}
