"""The pipeline's work: a project's own commands, run in a working folder, watched and bounded.

step ─► commands.py (which command, which folder) ─► process.py (in the worker) ─► guard.py ─► the command
"""
