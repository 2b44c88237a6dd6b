/* Sleeping without missing what ends the sleep.
 *
 * An interrupt that comes while they are held still ends WFI. The mark is taken back only after they were let through
 * and before the caller looks at anything, so what came earlier is seen by the caller and what comes later leaves its
 * mark. */
#include "../port.h"
#include "board.h"
#include "interrupts.h"

static volatile bool over;

void wait_is_over(void)
{
    over = true;
}

void port_wait(void)
{
    const uint32_t before = hold_interrupts();
    if (!over && !serial_has_received()) {
        __asm volatile("dsb\n\twfi" ::: "memory");
    }
    release_interrupts(before);
    __asm volatile("isb" ::: "memory");
    over = false;
}
