/* A sensor for boards that have none: a seeded signal, the same bits wherever it is generated.
 *
 * MUST match mcu_bridge/signal_generator.py; a test compares them through both ports. Uniform numbers come from
 * xorshift32 (Marsaglia 2003, shifts 13, 17, 5). One draw picks a class, in every sample; then each input takes a
 * draw, in [-1, 1). With several outputs the inputs i with i % outputs == class are shifted by 0.5 and the target is
 * one-hot; with one output the target is x_0^2 - x_last / 2. All steps but the target's square and difference are
 * exact in float32. */
#include "port.h"

static uint32_t state = 1;

static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static float draw_between_minus_one_and_one(void)
{
    return 2.0f * ((float)(draw() >> 8) * 0x1p-24f) - 1.0f;
}

bool port_has_sensor(void)
{
    return true;
}

/* xorshift's state must not be 0. */
void port_seed_sensor(uint32_t seed)
{
    state = seed != 0 ? seed : 1u;
}

void port_read_sample(float *x, uint32_t inputs, float *t, uint32_t outputs)
{
    const uint32_t class = draw() % outputs;
    for (uint32_t i = 0; i < inputs; i++) {
        x[i] = draw_between_minus_one_and_one();
        if (outputs > 1 && i % outputs == class) {
            x[i] += 0.5f;
        }
    }
    for (uint32_t j = 0; j < outputs; j++) {
        t[j] = j == class ? 1.0f : 0.0f;
    }
    if (outputs == 1) {
        t[0] = x[0] * x[0] - 0.5f * x[inputs - 1u];
    }
}
