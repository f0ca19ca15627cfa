"""The same load by wrk, where it is installed: it needs a tenth of the CPU of a load in Python."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.peers.group import PeerFailed

UNITS_IN_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
SLACK_SECONDS = 30
JSON = "application/json"


def load(program: str, url: str, *, connections: int, seconds: float, body: str) -> dict[str, float]:
    """Run wrk; returns what `load.py` returns. Raises PeerFailed."""
    words = ('wrk.method = "POST"', f"wrk.body = {json.dumps(body)}", f'wrk.headers["Content-Type"] = "{JSON}"')
    argv = [program, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s", "--latency"]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text("\n".join(words), "utf-8")
        argv += ["-s", str(script), url]
        limit = seconds + SLACK_SECONDS
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
    if done.returncode:
        raise PeerFailed(f"wrk ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return parse(done.stdout)


def parse(output: str) -> dict[str, float]:
    """The figures in wrk's output."""
    requests = re.search(r"(\d+) requests in ([\d.]+)(\w+),", output)
    if requests is None:
        raise PeerFailed(f"wrk said nothing that is understood: {output[-200:]}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    failed = int(refused[1]) if refused else 0
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return {
        "accepted": int(requests[1]) - failed,
        "failed": failed + (sum(map(int, errors.groups())) if errors else 0),
        "seconds": _ms(requests[2], requests[3]) / 1000,
        "p50": _quantile(output, 50),
        "p99": _quantile(output, 99),
    }


def _quantile(output: str, share: int) -> float:
    found = re.search(rf"^\s*{share}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    return _ms(found[1], found[2]) if found else 0.0


def _ms(number: str, unit: str) -> float:
    return float(number) * UNITS_IN_MS[unit]
