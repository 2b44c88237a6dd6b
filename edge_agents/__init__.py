"""The process on an edge device: it attends a coordinator, trains and sends updates."""
