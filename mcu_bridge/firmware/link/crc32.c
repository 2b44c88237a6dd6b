#include "link.h"

/* The remainders of four bits: 64 bytes of flash, where a table for eight would take 1,024. */
static const uint32_t REMAINDERS[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};

uint32_t link_crc32(uint32_t crc, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    crc = ~crc;
    for (; count > 0; count--) {
        crc ^= *at++;
        crc = (crc >> 4) ^ REMAINDERS[crc & 15u];
        crc = (crc >> 4) ^ REMAINDERS[crc & 15u];
    }
    return ~crc;
}
