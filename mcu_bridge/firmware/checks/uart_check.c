/* Sends back all that it receives, for ever: proves a board's line. Its test sends more than the rings hold, and
 * reads slowly.
 *
 * Bytes are taken only when there is room to send them again. */
#include "../port/port.h"

int port_main(void)
{
    uint8_t bytes[64];
    for (;;) {
        const size_t room = port_send_room();
        const size_t count = port_receive(bytes, room < sizeof bytes ? room : sizeof bytes);
        if (count == 0) {
            port_wait();
        }
        port_send(bytes, count);
    }
}
