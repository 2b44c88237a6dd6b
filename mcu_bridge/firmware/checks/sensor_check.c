/* Sends samples of the board's sensor: for each request of seed u32, inputs u16 and outputs u16, SAMPLES of them, as
 * floats. */
#include "../port/port.h"

#include <string.h>

#define SAMPLES 8u
#define MAX_VALUES 64u

typedef struct {
    uint32_t seed;
    uint16_t inputs, outputs;
} request_t;

static void send_all(const void *bytes, size_t count)
{
    while (port_send_room() < count) {
        port_wait();
    }
    port_send(bytes, count);
}

static bool is_in_bounds(uint32_t values)
{
    return values >= 1 && values <= MAX_VALUES;
}

static void answer(const request_t *request)
{
    float x[MAX_VALUES], t[MAX_VALUES];
    if (!is_in_bounds(request->inputs) || !is_in_bounds(request->outputs)) {
        return;
    }
    port_seed_sensor(request->seed);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        port_read_sample(x, request->inputs, t, request->outputs);
        send_all(x, request->inputs * sizeof *x);
        send_all(t, request->outputs * sizeof *t);
    }
}

int port_main(void)
{
    uint8_t bytes[sizeof(request_t)];
    size_t count = 0;
    request_t request;
    for (;;) {
        count += port_receive(&bytes[count], sizeof bytes - count);
        if (count == sizeof bytes) {
            memcpy(&request, bytes, sizeof request);
            answer(&request);
            count = 0;
        } else {
            port_wait();
        }
    }
}
