/* The program: bytes in, at most one training step, bytes out, sleep. Nothing here waits for anything but port_wait, so
 * the link is served and the watchdog fed between any two training steps. */
#include "../port/port.h"
#include "device.h"

#define CHUNK 64u

/* Bytes of the line are taken in chunks, and given to the session one by one: it may want no more after any of them. */
typedef struct {
    device_t device;
    link_line_t line;
    link_reader_t reader;
    uint32_t at;
    uint32_t count;
    uint8_t chunk[CHUNK];
} app_t;

static size_t room(void *context)
{
    (void)context;
    return port_send_room();
}

static void send(void *context, const uint8_t *bytes, size_t count)
{
    (void)context;
    port_send(bytes, count);
}

static bool listens(const app_t *app)
{
    return !app->device.wants_reset && !device_keeps_block(&app->device);
}

static void take_byte(app_t *app)
{
    link_frame_t frame;
    const link_event_t event = link_reader_take(&app->reader, app->chunk[app->at++], &frame);
    if (event != LINK_NOTHING) {
        link_session_take(&app->device.session, event, &frame);
    }
}

/* At most what the ring holds, so that a flood does not keep the rest waiting. */
static void receive(app_t *app)
{
    for (uint32_t taken = 0; taken < PORT_RECEIVE_RING && listens(app); taken++) {
        if (app->at == app->count) {
            app->at = 0;
            app->count = (uint32_t)port_receive(app->chunk, CHUNK);
        }
        if (app->count == 0) {
            return;
        }
        take_byte(app);
    }
}

static bool has_work(const app_t *app)
{
    return device_is_busy(&app->device) || app->at < app->count;
}

static void start(app_t *app)
{
    size_t bytes;
    void *memory = port_free_memory(&bytes);
    app->line.room = room;
    app->line.send = send;
    link_reader_start(&app->reader);
    device_start(&app->device, &app->line, memory, bytes);
}

static void turn(app_t *app)
{
    receive(app);
    device_work(&app->device);
    link_session_pump(&app->device.session);
    if (device_resets_now(&app->device)) {
        port_send_flush();
        port_reset_board();
    }
    port_watchdog_feed();
    if (!has_work(app)) {
        port_wait();
    }
}

int port_main(void)
{
    static app_t app;
    start(&app);
    port_watchdog_start();
    for (;;) {
        turn(&app);
    }
}
