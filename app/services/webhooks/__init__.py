"""Webhooks that platforms send to us."""
