/* What every board gives the programs that run on it. Nothing outside of port/ touches a register. */
#ifndef TINYFLEET_PORT_H
#define TINYFLEET_PORT_H

#include <stddef.h>
#include <stdint.h>

/* A fault, as the processor reported it; in RAM that a reset leaves alone. */
typedef struct {
    uint32_t magic;   /* PORT_FAULT_MAGIC when the rest means something */
    uint32_t reason;  /* CFSR */
    uint32_t hard;    /* HFSR */
    uint32_t address; /* the access that faulted, or 0 when it is not known */
} port_fault_t;

#define PORT_FAULT_MAGIC 0x544C4146u /* "FALT" */

extern port_fault_t port_fault;

/* The RAM that neither variables nor stacks take, aligned to 8 bytes; *bytes is its size. */
void *port_free_memory(size_t *bytes);

/* A counter of 24 bits that wraps, going up. On mps2_an386 under `-icount shift=0` one tick is 40 instructions. */
uint32_t port_ticks(void);
#define PORT_TICKS_MASK 0x00FFFFFFu

/* The highest the stack has been, in bytes, since the reset. */
uint32_t port_stack_used(void);

/* The program; a board's start-up calls it with the FPU on and memory protected. Its result is for the debugger. */
int port_main(void);

/* Never returns: ends the run where there is a debugger or an emulator. port_main's result and faults come here. */
void port_end(int status);

/* The status of a run that a fault ended. */
#define PORT_FAULT_STATUS 111

#endif
