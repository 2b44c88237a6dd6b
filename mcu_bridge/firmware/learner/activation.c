/* ReLU and tanh, in place or not. */
#include "elementary.h"

LEARNER_HOT void learner_relu_forward(uint32_t count, const float *x, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = x[i] > 0.0f ? x[i] : 0.0f;
    }
}

LEARNER_HOT void learner_relu_gradient(uint32_t count, const float *y, float *gradient)
{
    for (uint32_t i = 0; i < count; i++) {
        gradient[i] = y[i] > 0.0f ? gradient[i] : 0.0f;
    }
}

void learner_tanh_forward(uint32_t count, const float *x, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = learner_tanh(x[i]);
    }
}

LEARNER_HOT void learner_tanh_gradient(uint32_t count, const float *y, float *gradient)
{
    for (uint32_t i = 0; i < count; i++) {
        gradient[i] = gradient[i] * (1.0f - y[i] * y[i]);
    }
}
