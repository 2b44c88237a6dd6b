/* Runs the fuzzer's target where there is no libFuzzer: drive_fuzz COUNT SEED plays COUNT random inputs. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t state;

static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

int main(int argc, char **argv)
{
    uint8_t *input = malloc(1024);
    const long count = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
    state = argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 10) | 1u : 1u;
    if (input == NULL || count < 1) {
        return 2;
    }
    for (long i = 0; i < count; i++) {
        const size_t size = draw() % 1024u;
        for (size_t j = 0; j < size; j++) {
            /* Mostly small numbers: they are actions and near misses. */
            input[j] = (uint8_t)(draw() >> (draw() % 2u ? 24 : 29));
        }
        LLVMFuzzerTestOneInput(input, size);
    }
    free(input);
    printf("%ld\n", count);
    return 0;
}
