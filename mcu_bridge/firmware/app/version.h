/* The firmware's version, as IDENTIFY tells it. MUST match tinyfleet.__version__; at most 16 characters. */
#ifndef TINYFLEET_VERSION_H
#define TINYFLEET_VERSION_H

#define FIRMWARE_VERSION "0.1.0"

#endif
