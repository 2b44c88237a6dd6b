"""The lines to boards: serial ports, terminals, TCP, and emulated boards."""
