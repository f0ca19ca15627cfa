"""Use the two tasks as a caller would, and print what came of it: `python try_it.py`, beside a running worker."""

import json
import time

from celery import chord
from tasks import add, app, total

began = time.monotonic()
later = add.apply_async((20, 22), countdown=1)
found = {
    "delay": add.delay(2, 3).get(timeout=30),
    "chord": chord([add.s(number, number) for number in range(10)], total.s()).apply_async().get(timeout=30),
    "scheduled": [
        entry["request"]["id"] == later.id
        for entries in (app.control.inspect(timeout=5).scheduled() or {}).values()
        for entry in entries
    ],
    "countdown": later.get(timeout=30),
    "waited": time.monotonic() - began >= 1,
    "registered": sorted({name for names in app.control.inspect(timeout=5).registered().values() for name in names}),
}
print(json.dumps(found))
