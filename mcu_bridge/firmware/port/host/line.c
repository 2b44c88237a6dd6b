/* The line as file descriptors 0 and 1, which may be a terminal, a socket or pipes.
 *
 * No thread and no signal: bytes move between the rings and the kernel whenever a function of the line runs. The end
 * of file, or an error, is the end of the board: nobody can reach it any more, so the process ends with status 0. */
#define _DEFAULT_SOURCE
#include "../port.h"
#include "../ring.h"
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

enum { IN = 0, OUT = 1, WAIT_MS = 250, FLUSH_MS = 1000, CHUNK = 4096, CHUNKS = 16 };

static volatile uint8_t receive_bytes[PORT_RECEIVE_RING];
static volatile uint8_t send_bytes[PORT_SEND_RING];
static ring_t received = {receive_bytes, PORT_RECEIVE_RING, 0, 0};
static ring_t sending = {send_bytes, PORT_SEND_RING, 0, 0};
static uint32_t overruns;
static bool loses;

/* A terminal must not echo, translate or wait for lines. */
static void make_raw(int file)
{
    struct termios settings;
    if (tcgetattr(file, &settings) == 0) {
        cfmakeraw(&settings);
        (void)tcsetattr(file, TCSANOW, &settings);
    }
}

void host_start_line(bool loses_bytes)
{
    loses = loses_bytes;
    (void)signal(SIGPIPE, SIG_IGN);
    for (int file = IN; file <= OUT; file++) {
        make_raw(file);
        (void)fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK);
    }
}

/* The bytes of a read or a write; 0 when it has to wait. */
static size_t moved(ssize_t result)
{
    if (result > 0) {
        return (size_t)result;
    }
    if (result == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        exit(EXIT_SUCCESS);
    }
    return 0;
}

static size_t pull_chunk(void)
{
    uint8_t chunk[CHUNK];
    const size_t room = loses ? sizeof chunk : ring_room(&received);
    const size_t count = room == 0 ? 0 : moved(read(IN, chunk, room));
    for (size_t i = 0; i < count; i++) {
        overruns += ring_put(&received, chunk[i]) ? 0u : 1u;
    }
    return count;
}

/* Whether anything came. A line that loses bytes is emptied, but no flood keeps us here. */
static bool pull(void)
{
    const size_t first = pull_chunk();
    size_t count = first;
    for (int more = 0; loses && count == CHUNK && more < CHUNKS; more++) {
        count = pull_chunk();
    }
    return first > 0;
}

/* Whether anything left. */
static bool push(void)
{
    uint8_t chunk[PORT_SEND_RING];
    const uint32_t used = ring_used(&sending);
    for (uint32_t i = 0; i < used; i++) {
        chunk[i] = sending.bytes[(sending.taken + i) & (sending.size - 1u)];
    }
    const size_t count = used == 0 ? 0 : moved(write(OUT, chunk, used));
    sending.taken += (uint32_t)count;
    return count > 0;
}

size_t port_receive(uint8_t *bytes, size_t room)
{
    size_t count = 0;
    (void)pull();
    while (count < room && ring_take(&received, &bytes[count])) {
        count++;
    }
    return count;
}

uint32_t port_receive_overruns(void)
{
    (void)pull();
    return overruns;
}

size_t port_send_room(void)
{
    (void)push();
    return ring_room(&sending);
}

void port_send(const uint8_t *bytes, size_t count)
{
    if (count > ring_room(&sending)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        (void)ring_put(&sending, bytes[i]);
    }
    (void)push();
}

void port_send_flush(void)
{
    const uint32_t start = port_milliseconds();
    while (ring_used(&sending) > 0 && port_milliseconds() - start < FLUSH_MS) {
        struct pollfd out = {OUT, POLLOUT, 0};
        (void)push();
        (void)poll(&out, 1, WAIT_MS);
    }
}

void port_wait(void)
{
    const bool moving = pull() | push();
    if (moving || ring_used(&received) > 0) {
        return;
    }
    struct pollfd line[] = {{IN, POLLIN, 0}, {OUT, POLLOUT, 0}};
    const nfds_t files = ring_used(&sending) > 0 ? 2 : 1;
    (void)poll(line, files, WAIT_MS);
}
