"""Workflows: definitions as data, runs in the database, each step one task of the platform.

definition (YAML) ─► Plan ─► decide (pure) ─► rows and submissions, in one transaction ─► step tasks ─► decide …
"""
