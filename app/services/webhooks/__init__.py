"""Webhooks that platforms send us."""
