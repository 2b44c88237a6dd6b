/* Places that memory.ld names: their addresses are what counts. */
#ifndef TINYFLEET_MEMORY_H
#define TINYFLEET_MEMORY_H

#include <stdint.h>

extern const uint32_t port_vectors[];
extern uint32_t port_guard[];
extern uint32_t port_stack_bottom[];
extern uint32_t port_stack_top[];
extern uint32_t port_fault_stack_top[];
extern uint32_t port_data_start[];
extern uint32_t port_data_end[];
extern const uint32_t port_data_load[];
extern uint32_t port_bss_start[];
extern uint32_t port_bss_end[];
extern uint32_t port_free_start[];
extern uint32_t port_free_end[];

/* Enforces memory.ld: flash is read and run, RAM read and written, and the guard below the stack not touched. */
void port_protect_memory(void);

/* Brings the processor's own parts into the state after a reset, with our vectors. MPU off, interrupts held. */
void reset_state(void);

/* For the vector table. */
void port_reset(void);
void port_faulted(void);
void port_hung(void); /* for the watchdog's warning */

#endif
