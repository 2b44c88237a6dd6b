/* One update encoded on a microcontroller, of a change that the host left in a file.
 *
 * change.bin: count u32, entries u32, precision u32, zero u32, the noise's state and increment u64[4], then the change, f32.
 * update.bin: the update, then ticks u32 (see port.h, in encoding alone), the stack's highest u32. All little-endian.
 * Exit status: 0, or 100 for a change that is cut short, out of range or too large. */
#include "../codec/update.h"
#include "../port/cortex_m/semihosting.h"
#include "../port/port.h"

#define REFUSED 100

typedef struct {
    uint32_t count;
    uint32_t entries;
    uint32_t precision;
    uint32_t zero;
    pcg64_t noise;
} case_t;

static bool is_possible(const case_t *given, size_t free_bytes)
{
    return given->entries >= 1 && given->entries <= given->count && given->precision <= VALUES_INT8 &&
           given->count <= (free_bytes - sizeof(uint32_t)) / (sizeof(float) + 1u);
}

static bool write_update(int32_t file, const update_t *update)
{
    uint32_t at = 0;
    while (at < update->bytes) {
        const stretch_t stretch = update_stretch(update, at, update->bytes - at);
        if (!host_write(file, stretch.bytes, stretch.count)) {
            return false;
        }
        at += stretch.count;
    }
    return true;
}

int port_main(void)
{
    case_t given;
    update_t update;
    size_t free_bytes;
    float *change = port_free_memory(&free_bytes);
    const int32_t in = host_open("change.bin", HOST_READ);
    const int32_t out = host_open("update.bin", HOST_WRITE);
    if (in < 0 || out < 0 || !host_read(in, &given, sizeof given) || !is_possible(&given, free_bytes) ||
        !host_read(in, change, given.count * sizeof *change)) {
        return REFUSED;
    }
    const uint32_t before = port_ticks();
    update_encode(&update, change, given.count, given.entries, (values_precision_t)given.precision, &given.noise,
                  (uint8_t *)(change + given.count));
    const uint32_t cost[] = {(port_ticks() - before) & PORT_TICKS_MASK, port_stack_used()};
    return write_update(out, &update) && host_write(out, cost, sizeof cost) ? 0 : REFUSED;
}
