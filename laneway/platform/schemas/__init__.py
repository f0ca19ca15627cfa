"""What callers of the platform send and receive."""
