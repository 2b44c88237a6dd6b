"""The metrics service: keeps what all processes measure and answers questions about it."""
