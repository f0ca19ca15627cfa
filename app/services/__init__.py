"""The application's logic; it knows neither HTTP nor Celery."""
