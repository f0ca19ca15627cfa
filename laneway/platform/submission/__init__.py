"""How a task is accepted and handed to the broker."""
