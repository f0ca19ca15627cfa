"""The business; knows neither HTTP nor Celery tasks."""
