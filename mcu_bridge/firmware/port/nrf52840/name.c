/* A bare nRF52840, without a bootloader. */
#include "../port.h"

const char port_board_name[16] = "nrf52840";
