/* Who a board is: IDENTIFY's answer. */
#ifndef TINYFLEET_IDENTITY_H
#define TINYFLEET_IDENTITY_H

#include <stdint.h>

#define IDENTITY_BYTES 84

/* Write the answer, all but its first byte, the status. */
void identity_put(uint8_t response[IDENTITY_BYTES], uint32_t boot_id, uint64_t memory_bytes);

#endif
