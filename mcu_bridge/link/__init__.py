"""The host's half of the serial link: frames, commands and transfers (docs/formats/link.md)."""
