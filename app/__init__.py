"""Laneway: a distributed task platform on Celery."""
