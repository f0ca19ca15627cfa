"""What happened to tasks: recorded from the engine's journals, and read."""
