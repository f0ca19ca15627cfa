"""Uses the two tasks as a caller would, and prints the results: `python try_it.py`, beside a running worker."""

import json
import time

from celery import chord
from tasks import add, app, total

first = add.delay(2, 3).get(timeout=60)  # the first result shows that the worker is ready
began = time.monotonic()
later = add.apply_async((20, 22), countdown=4)
scheduled = app.control.inspect(timeout=3).scheduled() or {}
found = {
    "delay": first,
    "scheduled": [entry["request"]["id"] == later.id for entries in scheduled.values() for entry in entries],
    "chord": chord([add.s(number, number) for number in range(10)], total.s()).apply_async().get(timeout=30),
    "countdown": later.get(timeout=30),
    "waited": time.monotonic() - began >= 4,
    "registered": sorted({name for names in app.control.inspect(timeout=3).registered().values() for name in names}),
}
print(json.dumps(found))
