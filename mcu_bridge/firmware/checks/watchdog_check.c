/* Ends its own run in the way that a byte on the line names, and tells afterwards what is known of it.
 *
 * '?' is answered with REPORT_MARK, the digit that came last, the cause of the last reset, port_fault's five words,
 * milliseconds, the stack's highest and the bytes that the line lost, all u32, then the unique id. 'h' hangs, 'f'
 * faults, 'o' overflows the stack, 's' resets, 'd' receives nothing until DEAF_BYTES were lost; others do nothing. */
#include "../port/port.h"

#include <string.h>

#define REPORT_MARK 0x54504552u /* "REPT" */
#define DEAF_BYTES 1000u

/* Flash on a board, no memory of a process. */
static volatile uint32_t *volatile nothing = (volatile uint32_t *)16;

static void report(uint32_t digit)
{
    struct {
        uint32_t mark, digit, cause;
        port_fault_t fault;
        uint32_t milliseconds, stack, lost;
        uint8_t id[8];
    } known = {REPORT_MARK, digit, port_reset_cause(), port_fault, port_milliseconds(), port_stack_used(),
               port_receive_overruns(), {0}};
    uint8_t bytes[sizeof known];
    port_unique_id(known.id);
    memcpy(bytes, &known, sizeof known);
    port_send(bytes, sizeof bytes);
}

__attribute__((noinline)) static void hang(void)
{
    for (volatile uint32_t forever = 1; forever != 0;) {
    }
}

/* As an interrupt that never returns: nothing but the watchdog gets through. */
__attribute__((noinline)) static void hang_deaf(void)
{
#if defined(__arm__)
    __asm volatile("cpsid i");
#endif
    hang();
}

__attribute__((noinline)) static void break_a_rule(void)
{
    *nothing = 1;
}

static volatile uint32_t unknown_depth = 100000000u;

__attribute__((noinline)) static uint32_t overflow(uint32_t deeper)
{
    volatile uint32_t here[64];
    here[0] = deeper;
    return deeper == 0 ? 0 : overflow(deeper - 1u) + here[0];
}

static void receive_nothing(void)
{
    while (port_receive_overruns() < DEAF_BYTES) {
        port_watchdog_feed();
    }
}

static void obey(uint8_t byte)
{
    static const uint8_t last_words[] = "leaving";
    static uint8_t digit;
    switch (byte) {
    case '?': report(digit); break;
    case 'h': hang_deaf(); break;
    case 'f': break_a_rule(); break;
    case 'o': unknown_depth = overflow(unknown_depth); break;
    case 'd': receive_nothing(); break;
    case 's':
        port_send(last_words, sizeof last_words - 1u);
        port_send_flush();
        port_reset_board();
    default: digit = byte >= '0' && byte <= '9' ? byte : digit; break;
    }
}

int port_main(void)
{
    uint8_t byte;
    port_watchdog_start();
    for (;;) {
        port_watchdog_feed();
        if (port_receive(&byte, 1) == 1) {
            obey(byte);
        } else {
            port_wait();
        }
    }
}
