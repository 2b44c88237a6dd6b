/* Breaks one rule of memory.ld, named by the first byte of case.bin, which must end the run as a fault.
 *
 * trained.bin would say that the fault did not come; exit status 0 too. */
#include "../port/cortex_m/semihosting.h"
#include "../port/port.h"

#include <string.h>

#define REFUSED 100

/* Through a volatile, so that the compiler knows nothing about what is there. */
static volatile uint32_t *address(uint32_t at)
{
    const volatile uint32_t hidden = at;
    return (volatile uint32_t *)hidden;
}

static void run_from_ram(void)
{
    static const uint16_t code[] = {0x4770, 0x4770}; /* bx lr */
    static uint16_t copy[2];
    void (*function)(void);
    uint32_t at = (uint32_t)copy | 1u; /* Thumb */
    memcpy(copy, code, sizeof code);
    memcpy(&function, &at, sizeof at);
    function();
}

/* Deeper until the guard is met. */
static uint32_t overflow(uint32_t depth)
{
    volatile uint32_t frame[32];
    frame[0] = depth;
    return depth == 0 ? 0 : overflow(depth - 1u) + frame[0];
}

int port_main(void)
{
    char rule;
    const int32_t file = host_open("case.bin", HOST_READ);
    if (file < 0 || !host_read(file, &rule, 1)) {
        return REFUSED;
    }
    switch (rule) {
    case 'w': *address(0x00000100u) = 1; break;           /* writes flash */
    case 'f': (void)*address(0x00100000u); break;         /* reads beyond the flash, where QEMU has memory */
    case 'r': *address(0x20040000u) = 1; break;           /* writes beyond the RAM, where QEMU has memory */
    case 'x': run_from_ram(); break;
    case 's': return overflow(1000000u) == 0 ? 1 : 0;
    case 'n': break; /* none */
    default: return REFUSED;
    }
    return 0;
}
