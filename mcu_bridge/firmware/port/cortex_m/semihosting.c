/* Semihosting for AArch32, release 2.0. */
#include "semihosting.h"

#include "../port.h"

#include <string.h>

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_SEEK = 0x0A, SYS_EXIT_EXTENDED = 0x20 };

#define APPLICATION_EXIT 0x20026u

static int32_t ask_host(uint32_t operation, const uint32_t *arguments)
{
    register uint32_t r0 __asm("r0") = operation;
    register const uint32_t *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

int32_t host_open(const char *name, host_mode_t mode)
{
    const uint32_t arguments[] = {(uint32_t)name, (uint32_t)mode, strlen(name)};
    return ask_host(SYS_OPEN, arguments);
}

/* The host answers with the number of bytes that are missing. */
bool host_read(int32_t file, void *to, size_t bytes)
{
    const uint32_t arguments[] = {(uint32_t)file, (uint32_t)to, bytes};
    return ask_host(SYS_READ, arguments) == 0;
}

bool host_write(int32_t file, const void *from, size_t bytes)
{
    const uint32_t arguments[] = {(uint32_t)file, (uint32_t)from, bytes};
    return ask_host(SYS_WRITE, arguments) == 0;
}

bool host_seek(int32_t file, size_t position)
{
    const uint32_t arguments[] = {(uint32_t)file, position};
    return ask_host(SYS_SEEK, arguments) == 0;
}

void port_end(int status)
{
    const uint32_t arguments[] = {APPLICATION_EXIT, (uint32_t)status};
    (void)ask_host(SYS_EXIT_EXTENDED, arguments);
}
