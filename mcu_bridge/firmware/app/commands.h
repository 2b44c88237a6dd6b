/* The commands that are more than a few lines, one function each.
 *
 * Each is called with a payload of exactly its length and a response of zeros; it checks everything, then acts, so a
 * refusal changes nothing but what docs/formats/device.md says. The first byte of the response is set from what it
 * returns. */
#ifndef TINYFLEET_COMMANDS_H
#define TINYFLEET_COMMANDS_H

#include "device.h"

/* regions.c: the model, and what goes into it and comes out of it. */
device_status_t command_configure(device_t *device, const uint8_t *payload, uint8_t *response);
device_status_t command_write(device_t *device, const uint8_t *payload, uint8_t *response);
device_status_t command_commit(device_t *device, const uint8_t *payload, uint8_t *response);
device_status_t command_read(device_t *device, const uint8_t *payload, uint8_t *response);

/* encoding.c: the update that training made. */
device_status_t command_encode(device_t *device, const uint8_t *payload, uint8_t *response);

/* phases.c: training and evaluation. */
device_status_t command_train(device_t *device, const uint8_t *payload, uint8_t *response);
device_status_t command_evaluate(device_t *device, const uint8_t *payload, uint8_t *response);
device_status_t command_result(device_t *device, const uint8_t *payload, uint8_t *response);

#endif
