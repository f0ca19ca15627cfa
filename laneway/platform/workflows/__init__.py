"""Workflows: definitions are data, runs are rows in the database, and each step is one task of the platform.

definition (YAML) ─► Plan ─► decision (pure) ─► rows and submissions, in one transaction ─► step tasks ─► decision …
"""
