/* An Arduino Nano 33 BLE with its bootloader: an nRF52840 whose program starts behind it, see the Makefile. */
#include "../port.h"

const char port_board_name[16] = "nano33ble";
