"""How a task is run: attempts, outcomes, retries, steps."""
