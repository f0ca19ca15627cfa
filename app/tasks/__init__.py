"""The tasks: each is a function that calls one service."""
