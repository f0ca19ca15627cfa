"""Celery's result backend on Redis or Valkey."""
