/* What the files of the host's port share. */
#ifndef TINYFLEET_HOST_H
#define TINYFLEET_HOST_H

#include <stdbool.h>

/* Takes file descriptors 0 and 1 as the line. When it loses bytes, it does so as a real serial port would: all that the
 * kernel holds is read, and what the ring has no room for is gone. Otherwise the kernel keeps them. */
void host_start_line(bool loses_bytes);

/* Time counts from here. */
void host_start_clock(void);

#endif
