"""What conversations run on: the device thread, hardware, memory, health. Knows no conversation."""
