/* A board as a process: tinyfleet_device [--id HEX] [--lose-bytes] [--after RESET]
 *
 *   --id HEX        the unique id, 16 digits; else made from the process's number, which a reset keeps
 *   --lose-bytes    what a full receive ring has no room for is lost, as on a real line; else the kernel keeps it
 *   --after RESET   how the run before ended: only for a reset, in which the process executes itself again
 *
 * The watchdog is an alarm. A fault is a signal that the processor caused; nothing here can tell its pc. */
#define _DEFAULT_SOURCE
#include "../port.h"
#include "host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* 256 KB without the RAM that budget.toml allows the firmware on mps2_an386. */
#define FREE_BYTES (262144u - 6144u)

#define EXIT_USAGE 2

enum { ID_DIGITS = 16, RESET_DIGITS = 1 + 5 * 8 };

const char port_board_name[16] = "host";
port_fault_t port_fault;

static uint64_t free_memory[FREE_BYTES / sizeof(uint64_t)];
static uint32_t reset_cause = PORT_RESET_POWER;
static bool loses_bytes;
static char id[ID_DIGITS + 1];

/* --- Resets --- */

/* Hexadecimal digits; printf may not be called from a signal's handler. */
static char *put_hex(char *to, uint32_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        *to++ = "0123456789abcdef"[(value >> (4 * i)) & 15u];
    }
    return to;
}

/* The cause in one digit, then port_fault: what RAM keeps on a real board. */
static void put_reset(char *to, uint32_t cause)
{
    const uint32_t kept[] = {port_fault.magic, port_fault.reason, port_fault.hard, port_fault.address, port_fault.pc};
    to = put_hex(to, cause, 1);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        to = put_hex(to, kept[i], 8);
    }
    *to = '\0';
}

__attribute__((noreturn)) static void start_again(uint32_t cause)
{
    char after[RESET_DIGITS + 1];
    char *arguments[] = {"tinyfleet_device", "--id", id, "--after", after, loses_bytes ? "--lose-bytes" : NULL, NULL};
    put_reset(after, cause);
    (void)setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL); /* it would outlive this image */
    (void)execv("/proc/self/exe", arguments);
    _exit(PORT_FAULT_STATUS);
}

void port_reset_board(void)
{
    start_again(PORT_RESET_SOFTWARE);
}

uint32_t port_reset_cause(void)
{
    return reset_cause;
}

void port_end(int status)
{
    exit(status);
}

/* --- Faults and the watchdog --- */

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (number == SIGALRM) {
        start_again(PORT_RESET_WATCHDOG);
    }
    port_fault = (port_fault_t){PORT_FAULT_MAGIC, (uint32_t)number, 0, (uint32_t)(uintptr_t)info->si_addr, 0};
    start_again(PORT_RESET_FAULT);
}

/* On a stack of its own, for the stack may be what overflowed. A handler that executes the process again must not leave
 * its signal blocked. */
static void catch_signals(void)
{
    static uint8_t stack[65536];
    static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    (void)sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        (void)sigaction(caught[i], &action, NULL);
    }
}

void port_watchdog_start(void)
{
    port_watchdog_feed();
}

void port_watchdog_feed(void)
{
    const struct itimerval once = {{0, 0}, {PORT_WATCHDOG_MS / 1000u, PORT_WATCHDOG_MS % 1000u * 1000u}};
    (void)setitimer(ITIMER_REAL, &once, NULL);
}

/* --- Memory and identity --- */

void *port_free_memory(size_t *bytes)
{
    *bytes = sizeof free_memory;
    return free_memory;
}

uint32_t port_stack_used(void)
{
    return 0;
}

uint32_t port_stack_size(void)
{
    return 0;
}

/* `digits` hexadecimal digits of a text that was checked. */
static uint32_t get_hex(const char *from, size_t digits)
{
    char text[9] = "";
    memcpy(text, from, digits);
    return (uint32_t)strtoul(text, NULL, 16);
}

void port_unique_id(uint8_t bytes[8])
{
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)get_hex(&id[2 * i], 2);
    }
}

/* --- Start --- */

static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdefABCDEF") == digits;
}

static bool take_reset(const char *text)
{
    if (!is_hex(text, RESET_DIGITS)) {
        return false;
    }
    reset_cause = get_hex(text, 1);
    port_fault = (port_fault_t){get_hex(text + 1, 8), get_hex(text + 9, 8), get_hex(text + 17, 8),
                                get_hex(text + 25, 8), get_hex(text + 33, 8)};
    return true;
}

static bool take_id(const char *text)
{
    if (!is_hex(text, ID_DIGITS)) {
        return false;
    }
    memcpy(id, text, ID_DIGITS);
    return true;
}

static bool take_arguments(char **arguments)
{
    for (; *arguments != NULL; arguments++) {
        const char *value = arguments[1] != NULL ? arguments[1] : "";
        if (strcmp(*arguments, "--lose-bytes") == 0) {
            loses_bytes = true;
        } else if (strcmp(*arguments, "--id") == 0 && take_id(value)) {
            arguments++;
        } else if (strcmp(*arguments, "--after") == 0 && take_reset(value)) {
            arguments++;
        } else {
            return false;
        }
    }
    return true;
}

int main(int count, char **arguments)
{
    (void)count;
    (void)put_hex(put_hex(id, 0, 8), (uint32_t)getpid(), 8);
    if (!take_arguments(arguments + 1)) {
        (void)fputs("usage: tinyfleet_device [--id HEX16] [--lose-bytes], with the line on stdin and stdout\n", stderr);
        return EXIT_USAGE;
    }
    catch_signals();
    host_start_line(loses_bytes);
    host_start_clock();
    port_end(port_main());
}
