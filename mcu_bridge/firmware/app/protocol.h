/* The device protocol's numbers, version 3: docs/formats/device.md. MUST match mcu_bridge/device/messages.py. */
#ifndef TINYFLEET_PROTOCOL_H
#define TINYFLEET_PROTOCOL_H

#include <stdint.h>

#define DEVICE_PROTOCOL_VERSION 3u

enum {
    DEVICE_IDENTIFY = 0x01,
    DEVICE_CONFIGURE = 0x02,
    DEVICE_WRITE = 0x03,
    DEVICE_COMMIT = 0x04,
    DEVICE_READ = 0x05,
    DEVICE_TRAIN = 0x06,
    DEVICE_EVALUATE = 0x07,
    DEVICE_RESULT = 0x08,
    /* 0x09 was SELECT, until version 2 */
    DEVICE_COUNTERS = 0x0A,
    DEVICE_RESET = 0x0B,
    DEVICE_ENCODE = 0x0C
};

/* The first byte of every response. */
typedef enum {
    DEVICE_OK = 0,
    DEVICE_BAD_REQUEST = 1, /* a length or a value */
    DEVICE_UNKNOWN_COMMAND = 2,
    DEVICE_NOT_IDENTIFIED = 3,
    DEVICE_WRONG_STATE = 4,
    DEVICE_BAD_LAYER = 5,
    DEVICE_TOO_LARGE = 6,
    DEVICE_DOES_NOT_FIT = 7,
    DEVICE_INCOMPLETE = 8,
    DEVICE_CORRUPT = 9,
    DEVICE_NO_SENSOR = 10,
    DEVICE_NO_TRANSFER = 11
} device_status_t;

/* 4 was SELECTION, until version 2. */
enum { DEVICE_NO_REGION = 0, DEVICE_TABLE = 1, DEVICE_PARAMETERS = 2, DEVICE_UPDATE = 5 };

/* Options of CONFIGURE. */
#define DEVICE_KEEP_START 1u
#define DEVICE_GRADIENT 2u

/* Of TRAIN and EVALUATE. */
enum { DEVICE_FROM_LINE = 0, DEVICE_FROM_SENSOR = 1 };
enum { DEVICE_INPUT_F32 = 0, DEVICE_INPUT_U8 = 1 };
enum { DEVICE_TARGET_F32 = 0, DEVICE_TARGET_CLASS = 1 };

/* MUST match tinyfleet/strategies/plan.py. */
#define DEVICE_MAX_SAMPLES 1000000u
#define DEVICE_MAX_PASSES 10000u
#define DEVICE_MAX_RATE 10.0f
#define DEVICE_MAX_PROXIMAL 1000.0f

/* Of IDENTIFY's features. */
#define DEVICE_HAS_SENSOR 1u

#endif
