/* The firmware's application without a board: bytes and turns of the main loop are given by a test. Two builds: a library
 * for ctypes, and with BOARD_FUZZ a program that plays a file of frames under sanitizers. */
#include "app/device.h"
#include "link/link.h"
#include "port/port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define port_has_sensor generated_sensor
#include "port/signal_generator.c"
#undef port_has_sensor

enum { SENT_BYTES = 1 << 20 };

typedef struct {
    device_t device;
    link_reader_t reader;
    link_line_t line;
    uint8_t *memory;
    uint8_t *sent;
    size_t sent_count;
} board_t;

/* ---- the port: a clock that ticks when looked at, a board without registers ---- */

const uint32_t port_ticks_hz = 1000;
const uint32_t port_clock_hz = 64000000;
const char port_board_name[16] = "tested";
port_fault_t port_fault;
static uint64_t ticks;
static bool has_sensor = true;

uint64_t port_ticks64(void) { return ++ticks; }
uint32_t port_milliseconds(void) { return 77; }
uint32_t port_stack_used(void) { return 1000; }
uint32_t port_stack_size(void) { return 4096; }
uint32_t port_receive_overruns(void) { return 3; }
uint32_t port_reset_cause(void) { return PORT_RESET_WATCHDOG; }
bool port_has_sensor(void) { return has_sensor; }

void port_unique_id(uint8_t id[8])
{
    memcpy(id, "\1\2\3\4\5\6\7\10", 8);
}

/* ---- the line ---- */

static size_t room(void *context)
{
    const board_t *board = context;
    return SENT_BYTES - board->sent_count;
}

static void take_sent(void *context, const uint8_t *bytes, size_t count)
{
    board_t *board = context;
    memcpy(board->sent + board->sent_count, bytes, count);
    board->sent_count += count;
}

/* ---- for tests ---- */

/* Memory of exactly so many bytes: a sanitizer sees the first one beyond. */
board_t *board_open(size_t bytes)
{
    board_t *board = calloc(1, sizeof *board);
    board->memory = malloc(bytes);
    board->sent = malloc(SENT_BYTES);
    memset(board->memory, 0xA5, bytes);
    board->line.context = board;
    board->line.room = room;
    board->line.send = take_sent;
    link_reader_start(&board->reader);
    device_start(&board->device, &board->line, board->memory, bytes);
    return board;
}

void board_close(board_t *board)
{
    free(board->memory);
    free(board->sent);
    free(board);
}

void board_has_sensor(int has)
{
    has_sensor = has != 0;
}

void board_fault(uint32_t magic, uint32_t reason, uint32_t hard, uint32_t address, uint32_t pc)
{
    port_fault = (port_fault_t){magic, reason, hard, address, pc};
}

/* At most `turns` turns of work; how many found some. */
uint32_t board_work(board_t *board, uint32_t turns)
{
    uint32_t done = 0;
    while (done < turns && device_is_busy(&board->device)) {
        device_work(&board->device);
        done++;
    }
    link_session_pump(&board->device.session);
    return done;
}

/* As app.c: no byte while a block is kept. */
void board_receive(board_t *board, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        link_frame_t frame;
        const link_event_t event = link_reader_take(&board->reader, bytes[i], &frame);
        if (event != LINK_NOTHING) {
            link_session_take(&board->device.session, event, &frame);
        }
        while (device_keeps_block(&board->device)) {
            board_work(board, 1);
        }
    }
}

/* What was sent since the last call; the bytes are valid until the board sends again. */
const uint8_t *board_sent(board_t *board, size_t *count)
{
    *count = board->sent_count;
    board->sent_count = 0;
    return board->sent;
}

int board_has_parameters(const board_t *board)
{
    return board->device.has_parameters;
}

int board_resets_now(const board_t *board)
{
    return device_resets_now(&board->device);
}

const float *board_parameters(const board_t *board)
{
    return board->device.model.parameters;
}

#ifdef BOARD_FUZZ
static uint32_t number(void)
{
    uint8_t bytes[4];
    if (fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes) {
        exit(EXIT_FAILURE);
    }
    return link_u32(bytes);
}

/* Of every parameter that may be read, the sanitizers see that it is there, and this that it is finite. */
static void check(const board_t *board)
{
    const device_t *device = &board->device;
    if (device->has_parameters &&
        (!device->model.is_configured ||
         learner_all_finite(device->model.parameters, device->model.size.parameters) == 0)) {
        (void)fputs("parameters that are none\n", stderr);
        exit(EXIT_FAILURE);
    }
}

/* Records of {kind, number, that many bytes}: 0 opens a new board with so much memory, 1 bytes arrive, 2 turns of work.
 * What the boards send goes to stdout. */
int main(void)
{
    board_t *board = board_open(0);
    size_t count;
    for (int kind = getchar(); kind != EOF; kind = getchar()) {
        const uint32_t value = number();
        uint8_t *bytes = malloc(value + 1u);
        if (kind == 0) {
            board_close(board);
            board = board_open(value);
        } else if (kind == 1 && fread(bytes, 1, value, stdin) == value) {
            board_receive(board, bytes, value);
        } else if (kind == 2) {
            board_work(board, value);
        }
        free(bytes);
        check(board);
        const uint8_t *sent = board_sent(board, &count);
        (void)fwrite(sent, 1, count, stdout);
    }
    board_close(board);
    return EXIT_SUCCESS;
}
#endif
