"""The semantics of tasks: submission, attempts, history, dead letters, schedules, workflows (extra `platform`)."""
