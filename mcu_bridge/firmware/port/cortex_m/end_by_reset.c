/* The end of a program in the field: it starts again. Linked instead of semihosting.c, which needs a host. */
#include "../port.h"
#include "board.h"

void port_end(int status)
{
    reset_because(status == PORT_FAULT_STATUS ? PORT_RESET_FAULT : PORT_RESET_SOFTWARE);
}
