/* Refer to update.h. */
#include "update.h"

#include "selection.h"

#include <stdbool.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values are sent as they lie in memory: that needs a little-endian processor"
#endif

#define SHORT_INDEX_COUNT 65536u /* up to so many entries an index has two bytes, beyond four */

/* Numbers are part of the format; of equally long ones the first is taken. */
typedef enum { ALL = 0, BITMAP = 1, GAPS = 2, INDICES = 3, FORMS = 4 } form_t;

/* What is sent of `count` entries: `kept` values of `size` bytes in `stored`, whose bits are set. */
typedef struct {
    uint8_t *stored;
    uint8_t *bitmap;
    uint32_t count;
    uint32_t kept;
    uint32_t size;
} sparse_t;

static bool is_sent(const sparse_t *sparse, uint32_t index)
{
    return ((uint32_t)sparse->bitmap[index / 8u] >> index % 8u & 1u) != 0;
}

/* ---- values that became 0 ---- */

/* 0 and -0; -128, which would pass for one, is no step of an int8. */
static bool is_zero(const uint8_t *value, uint32_t size)
{
    uint32_t bits = value[size - 1u] & 0x7Fu;
    for (uint32_t i = 0; i + 1u < size; i++) {
        bits |= value[i];
    }
    return bits == 0;
}

static void move_value(const sparse_t *sparse, uint32_t to, uint32_t from)
{
    memmove(sparse->stored + to * sparse->size, sparse->stored + from * sparse->size, sparse->size);
}

static void leave_out_zeros(sparse_t *sparse)
{
    uint32_t from = 0;
    sparse->kept = 0;
    for (uint32_t i = 0; i < sparse->count; i++) {
        if (!is_sent(sparse, i)) {
            continue;
        }
        if (is_zero(sparse->stored + from * sparse->size, sparse->size)) {
            sparse->bitmap[i / 8u] = (uint8_t)(sparse->bitmap[i / 8u] & ~(1u << i % 8u));
        } else {
            move_value(sparse, sparse->kept++, from);
        }
        from++;
    }
}

/* ---- positions ---- */

static uint32_t gap_bytes(uint32_t gap)
{
    return 1u + (gap >= 1u << 7 ? 1u : 0u) + (gap >= 1u << 14 ? 1u : 0u) + (gap >= 1u << 21 ? 1u : 0u);
}

static uint32_t all_gaps_bytes(const sparse_t *sparse)
{
    uint32_t bytes = 0;
    uint32_t expected = 0;
    for (uint32_t i = 0; i < sparse->count; i++) {
        if (is_sent(sparse, i)) {
            bytes += gap_bytes(i - expected);
            expected = i + 1u;
        }
    }
    return bytes;
}

static uint8_t *put_gap(uint8_t *to, uint32_t gap)
{
    for (; gap >= 0x80u; gap >>= 7) {
        *to++ = (uint8_t)(gap | 0x80u);
    }
    *to++ = (uint8_t)gap;
    return to;
}

static void write_gaps(const sparse_t *sparse, uint8_t *to)
{
    uint32_t expected = 0;
    for (uint32_t i = 0; i < sparse->count; i++) {
        if (is_sent(sparse, i)) {
            to = put_gap(to, i - expected);
            expected = i + 1u;
        }
    }
}

static uint32_t index_bytes(uint32_t count)
{
    return count <= SHORT_INDEX_COUNT ? 2u : 4u;
}

static void write_indices(const sparse_t *sparse, uint8_t *to)
{
    const uint32_t size = index_bytes(sparse->count);
    for (uint32_t i = 0; i < sparse->count; i++) {
        if (is_sent(sparse, i)) {
            memcpy(to, &i, size); /* its lower bytes come first */
            to += size;
        }
    }
}

/* Every entry has a value then: from the last one, so that none is overwritten before it has moved. */
static void spread_values(const sparse_t *sparse)
{
    uint32_t from = sparse->kept;
    for (uint32_t i = sparse->count; i-- > 0;) {
        if (is_sent(sparse, i)) {
            move_value(sparse, i, --from);
        } else {
            memset(sparse->stored + i * sparse->size, 0, sparse->size);
        }
    }
}

/* ---- the update ---- */

static form_t shortest_form(const sparse_t *sparse, uint32_t *bytes)
{
    const uint32_t lengths[FORMS] = {
        [ALL] = (sparse->count - sparse->kept) * sparse->size,
        [BITMAP] = (sparse->count + 7u) / 8u,
        [GAPS] = all_gaps_bytes(sparse),
        [INDICES] = index_bytes(sparse->count) * sparse->kept,
    };
    form_t best = ALL;
    for (form_t form = BITMAP; form < FORMS; form++) {
        best = lengths[form] < lengths[best] ? form : best;
    }
    *bytes = best == ALL ? 0u : lengths[best];
    return best;
}

/* Gaps and indices are written behind the values. There is room: they are taken only when they are shorter than the
 * bitmap, and each takes a byte at least, so that they and all values have less than (count / 8) * (1 + 4) bytes. */
static const uint8_t *write_positions(sparse_t *sparse, form_t form)
{
    uint8_t *behind = sparse->stored + sparse->kept * sparse->size;
    switch (form) {
    case ALL:
        spread_values(sparse);
        sparse->kept = sparse->count;
        return behind;
    case GAPS: write_gaps(sparse, behind); return behind;
    case INDICES: write_indices(sparse, behind); return behind;
    default: return sparse->bitmap;
    }
}

static void set_part(update_t *update, uint32_t part, const uint8_t *bytes, uint32_t count)
{
    update->parts[part].bytes = bytes;
    update->parts[part].count = count;
    update->bytes += count;
}

static void assemble(update_t *update, sparse_t *sparse, values_precision_t precision)
{
    uint32_t bytes;
    const form_t form = shortest_form(sparse, &bytes);
    const uint8_t *positions = write_positions(sparse, form);
    const uint8_t head[4] = {(uint8_t)form, (uint8_t)precision, 0, 0};
    memcpy(update->head, head, sizeof head);
    memcpy(update->head + sizeof head, &sparse->kept, sizeof sparse->kept);
    update->bytes = 0;
    set_part(update, UPDATE_HEAD, update->head, sizeof update->head);
    set_part(update, UPDATE_POSITIONS, positions, bytes);
    set_part(update, UPDATE_SCALE, update->scale, precision == VALUES_INT8 ? sizeof update->scale : 0u);
    set_part(update, UPDATE_VALUES, sparse->stored, sparse->kept * sparse->size);
}

void update_encode(update_t *update, float *change, uint32_t count, uint32_t entries, values_precision_t precision,
                   pcg64_t *noise, uint8_t *bitmap)
{
    sparse_t sparse = {(uint8_t *)change, bitmap, count, 0, values_bytes(precision)};
    const uint32_t chosen = selection_choose(change, count, entries, bitmap);
    const float scale = values_round(sparse.stored, chosen, precision, noise);
    memcpy(update->scale, &scale, sizeof scale);
    leave_out_zeros(&sparse);
    assemble(update, &sparse, precision);
}

stretch_t update_stretch(const update_t *update, uint32_t offset, uint32_t count)
{
    const stretch_t *part = update->parts;
    stretch_t stretch;
    for (; offset >= part->count; part++) {
        offset -= part->count;
    }
    stretch.bytes = part->bytes + offset;
    stretch.count = count < part->count - offset ? count : part->count - offset;
    return stretch;
}
