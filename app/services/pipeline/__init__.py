"""The pipeline: runs a project's own commands in a working folder, supervised and bounded.

step ─► commands.py (chooses command and folder) ─► process.py (in the worker) ─► guard.py ─► the command
"""
