"""Why a task waits, and for how long it probably will."""
