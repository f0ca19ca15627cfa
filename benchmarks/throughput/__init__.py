"""How fast jobs go in and out, side by side with stock Celery: `python -m benchmarks.throughput`."""
