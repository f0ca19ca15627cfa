"""The history of tasks: recorded from the engine's journals, and read."""
