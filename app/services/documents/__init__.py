"""Documents: taken in, split into passages, and found."""
