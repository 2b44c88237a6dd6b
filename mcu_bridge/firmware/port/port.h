/* What every board gives the programs that run on it. Nothing outside of port/ touches a register.
 *
 * A program's entry is port_main; the board's start-up calls it. Everything here is for port_main and what it calls:
 * one thread, never from an interrupt. No function waits, except port_wait, port_send_flush and port_read_sample, and
 * none of those for longer than it says. Boards: mps2_an386 (QEMU), nrf52840, nano33ble, host (a Linux process). */
#ifndef TINYFLEET_PORT_H
#define TINYFLEET_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- The program ----------------------------------------------------------------------------------------------- */

/* The program; a board's start-up calls it with the FPU on, memory protected, interrupts and the line running. */
int port_main(void);

/* Never returns; port_main's result and faults come here. Checks, which are linked with semihosting, end their run with
 * this status; a program for the field resets the board. The host's process exits. */
void port_end(int status);

/* The status of a run that a fault ended. */
#define PORT_FAULT_STATUS 111

/* Up to 15 characters, NUL padded. */
extern const char port_board_name[16];

/* What tells one board from another of its kind; all 0 when this board has none. */
void port_unique_id(uint8_t id[8]);

/* --- Memory ---------------------------------------------------------------------------------------------------- */

/* The RAM that neither variables nor stacks take, aligned to 8 bytes; *bytes is its size. */
void *port_free_memory(size_t *bytes);

/* The highest the stack has been since the reset, and the bytes that it has. Both are 0 on the host: not known. */
uint32_t port_stack_used(void);
uint32_t port_stack_size(void);

/* --- The line: a serial port, in full duplex -------------------------------------------------------------------- */

/* Interrupts put what arrives into a ring of so many bytes. What arrives when it is full is lost, and counted. */
#define PORT_RECEIVE_RING 1024u

/* Moves what has arrived, in order, into `bytes`, at most `room`; returns how many, 0 when there are none. */
size_t port_receive(uint8_t *bytes, size_t room);

/* Bytes lost since the reset: because the ring was full, or by the serial port's own count. */
uint32_t port_receive_overruns(void);

/* How many bytes port_send takes at once. It grows again as they leave; with nothing on its way it is
 * PORT_SEND_RING, enough for a whole frame of 269 bytes and a response to a command. */
#define PORT_SEND_RING 512u
size_t port_send_room(void);

/* Takes a copy and returns; interrupts send it. `count` must not exceed port_send_room(): beyond that, nothing is
 * sent. */
void port_send(const uint8_t *bytes, size_t count);

/* Waits until all has left the board, at most a second: a line that takes nothing does not hold a reset up. */
void port_send_flush(void);

/* Sleeps until something may have happened since the last call returned: a byte arrived, bytes left, or some time
 * went by (below PORT_WAIT_MS, so that a loop around it feeds the watchdog). Returns at once when bytes wait to be
 * received or an interrupt came in between, so nothing is slept through. A return says nothing: look at everything. */
#define PORT_WAIT_MS 1100u
void port_wait(void);

/* --- Time ------------------------------------------------------------------------------------------------------ */

/* A counter of 24 bits that wraps, going up port_ticks_hz times a second. On mps2_an386 under `-icount shift=0` one
 * tick is 40 instructions. */
uint32_t port_ticks(void);
#define PORT_TICKS_MASK 0x00FFFFFFu

/* The same counter, never wrapping, from near 0 at the reset. */
uint64_t port_ticks64(void);
uint32_t port_milliseconds(void); /* of it; wraps after 49 days */

extern const uint32_t port_ticks_hz;
extern const uint32_t port_clock_hz; /* the processor's; on the host nominal */

/* --- Resets and faults ----------------------------------------------------------------------------------------- */

/* Resets the board unless fed at least this often; once started it cannot be stopped. On an nRF52840 one
 * that a bootloader started keeps that one's time. */
#define PORT_WATCHDOG_MS 8000u
void port_watchdog_start(void);
void port_watchdog_feed(void);

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void port_reset_board(void); /* at once: call port_send_flush before, where something is to leave first */

/* Why the program runs. MUST match IDENTIFY's reset cause, docs/formats/device.md. */
typedef enum {
    PORT_RESET_POWER = 0, /* power came, the reset button, or unknown */
    PORT_RESET_SOFTWARE = 1,
    PORT_RESET_WATCHDOG = 2,
    PORT_RESET_FAULT = 3
} port_reset_cause_t;

/* The same during one run, a port_reset_cause_t. */
uint32_t port_reset_cause(void);

/* The last fault since power came, as the processor reported it; in RAM that a reset leaves alone. A hang that the
 * watchdog ended is there too, with reason, hard and address 0 and its pc, where the board can tell. */
typedef struct {
    uint32_t magic;   /* PORT_FAULT_MAGIC when the rest means something */
    uint32_t reason;  /* CFSR; on the host the signal's number */
    uint32_t hard;    /* HFSR */
    uint32_t address; /* the access that faulted, or 0 when it is not known */
    uint32_t pc;      /* the instruction, or 0 when the stack that told it was lost */
} port_fault_t;

#define PORT_FAULT_MAGIC 0x324C4146u /* "FAL2" */

extern port_fault_t port_fault;

/* --- The sensor ------------------------------------------------------------------------------------------------ */

/* Whether there is one to train on. The others may be called only when there is. */
bool port_has_sensor(void);

/* Starts the sensor's signal anew; where it is generated the same seed gives the same samples. */
void port_seed_sensor(uint32_t seed);

/* The next sample: x[inputs] and its target t[outputs], both counts at least 1. Takes as long as the signal does. */
void port_read_sample(float *x, uint32_t inputs, float *t, uint32_t outputs);

#endif
