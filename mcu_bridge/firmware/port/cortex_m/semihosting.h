/* Files of the host, through a debugger or an emulator: for test programs, never for a device in the field. */
#ifndef TINYFLEET_SEMIHOSTING_H
#define TINYFLEET_SEMIHOSTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { HOST_READ = 1, HOST_WRITE = 5 } host_mode_t; /* "rb" and "wb" of fopen */

/* A file in the host's working folder; below 0 when it cannot be opened. */
int32_t host_open(const char *name, host_mode_t mode);

/* Whether all `bytes` were read or written, or the position set. */
bool host_read(int32_t file, void *to, size_t bytes);
bool host_write(int32_t file, const void *from, size_t bytes);
bool host_seek(int32_t file, size_t position);

#endif
