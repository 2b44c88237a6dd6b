/* The line's two rings; a board's interrupts are at their other ends. */
#include "../port.h"
#include "../ring.h"
#include "board.h"

#define FLUSH_MS 1000u
#define LAST_BYTE_MS 2u /* to leave the shift register, at 9,600 baud and above */

static volatile uint8_t receive_bytes[PORT_RECEIVE_RING];
static volatile uint8_t send_bytes[PORT_SEND_RING];
static ring_t received = {receive_bytes, PORT_RECEIVE_RING, 0, 0};
static ring_t sending = {send_bytes, PORT_SEND_RING, 0, 0};
static volatile uint32_t lost; /* written by interrupts alone */

void serial_received(uint8_t byte)
{
    if (!ring_put(&received, byte)) {
        serial_lost(1);
    }
    wait_is_over();
}

void serial_lost(uint32_t bytes)
{
    lost += bytes;
}

uint32_t serial_next(const volatile uint8_t **bytes)
{
    const uint32_t at = sending.taken & (sending.size - 1u);
    const uint32_t used = ring_used(&sending);
    const uint32_t before_end = sending.size - at;
    *bytes = &sending.bytes[at];
    return used < before_end ? used : before_end;
}

void serial_sent(uint32_t count)
{
    sending.taken += count;
    wait_is_over();
}

bool serial_has_received(void)
{
    return ring_used(&received) > 0;
}

size_t port_receive(uint8_t *bytes, size_t room)
{
    size_t count = 0;
    while (count < room && ring_take(&received, &bytes[count])) {
        count++;
    }
    return count;
}

uint32_t port_receive_overruns(void)
{
    return lost;
}

size_t port_send_room(void)
{
    return ring_room(&sending);
}

void port_send(const uint8_t *bytes, size_t count)
{
    if (count == 0 || count > ring_room(&sending)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        (void)ring_put(&sending, bytes[i]);
    }
    board_start_sending();
}

void port_send_flush(void)
{
    const uint32_t start = port_milliseconds();
    uint32_t idle_since = start;
    while (port_milliseconds() - start < FLUSH_MS && port_milliseconds() - idle_since < LAST_BYTE_MS) {
        if (ring_used(&sending) > 0 || !board_has_sent()) {
            idle_since = port_milliseconds();
        }
    }
}
