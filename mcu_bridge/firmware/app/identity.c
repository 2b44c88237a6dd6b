/* Refer to identity.h; the layout is docs/formats/device.md's. */
#include "identity.h"

#include "../learner/learner.h"
#include "../port/port.h"
#include "bytes.h"
#include "protocol.h"
#include "version.h"

typedef char firmware_version_fits[sizeof FIRMWARE_VERSION <= 17 ? 1 : -1];
typedef char ring_fits_16_bits[PORT_RECEIVE_RING <= UINT16_MAX ? 1 : -1];

static void put_fault(uint8_t *at)
{
    if (port_fault.magic == PORT_FAULT_MAGIC) {
        put_u32(at, port_fault.reason);
        put_u32(at + 4, port_fault.hard);
        put_u32(at + 8, port_fault.address);
        put_u32(at + 12, port_fault.pc);
    }
}

void identity_put(uint8_t response[IDENTITY_BYTES], uint32_t boot_id, uint64_t memory_bytes)
{
    response[1] = (uint8_t)port_reset_cause();
    put_u16(response + 2, port_has_sensor() ? DEVICE_HAS_SENSOR : 0);
    put_u32(response + 4, boot_id);
    put_u32(response + 8, LEARNER_ABI_VERSION);
    put_u32(response + 12, memory_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)memory_bytes);
    put_u16(response + 16, PORT_RECEIVE_RING);
    put_u16(response + 18, DEVICE_PROTOCOL_VERSION);
    put_u32(response + 20, port_clock_hz);
    put_u32(response + 24, port_ticks_hz);
    port_unique_id(response + 28);
    memcpy(response + 36, port_board_name, 16);
    memcpy(response + 52, FIRMWARE_VERSION, sizeof FIRMWARE_VERSION - 1);
    put_fault(response + 68);
}
