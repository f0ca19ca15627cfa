"""`python -m benchmarks.load`: a platform of its own, many users on it for a while, and an account of what they sent.

Exit code 0: every request was answered without an error, and everything that was accepted is completed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from time import perf_counter

import httpx2
from rich.console import Console

from app.core.settings import ROOT
from benchmarks.load.account import account
from benchmarks.load.inputs import CALCULATION
from benchmarks.load.platform import base_url, running
from benchmarks.load.report import Burst, show, show_account, show_burst

EXAMPLES = ROOT / "examples" / "documents"


def main() -> int:
    """All of it."""
    asked = _arguments()
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    with (
        TemporaryDirectory(prefix="laneway-load-") as name,
        running(Path(name), database=asked.database) as environment,
    ):
        folder = Path(name)
        objects = _objects(folder / "data" / "objects")
        accepted = folder / "accepted"
        accepted.touch()
        own = environment | {"LOAD_ACCEPTED": str(accepted), "LOAD_OBJECTS": json.dumps(objects)}
        if asked.burst:
            show_burst(out, _burst(base_url(environment), asked.burst, accepted))
        out.print(f"{asked.users} users for {asked.seconds} s on {os.cpu_count()} cores ...")
        failed = show(out, _locust(own, asked), seconds=asked.seconds)
        os.environ.update(environment)
        found = account(accepted, seconds=asked.drain)
        show_account(out, found)
    return 0 if found.is_good and not failed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--burst", type=int, default=100, help="workflow requests sent at once, before the users come")
    parser.add_argument("--drain", type=int, default=300, help="seconds that the work may take after the load")
    parser.add_argument("--database", help="DATABASE_URL; without it a SQLite file, as `make up` has it")
    return parser.parse_args()


def _objects(folder: Path) -> list[str]:
    """Put the example documents into the storage; their keys."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix == ".md"]
    for path in files:
        shutil.copy(path, folder)
    return [path.name for path in files]


def _burst(url: str, number: int, accepted: Path) -> Burst:
    """As many workflow requests at the same moment."""
    context = {"workflow_type": "savings_assessment", "calculator_inputs": CALCULATION}
    barrier = Barrier(number)

    def ask(caller: int) -> tuple[float, httpx2.Response]:
        body = {"agent_id": f"burst-{caller}", "mode": "execute", "context": context}
        with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
            barrier.wait()
            began = perf_counter()
            answer = client.post("/api/chat", json=body)
            return (perf_counter() - began) * 1000, answer

    with ThreadPoolExecutor(number) as pool:
        began = perf_counter()
        answers = list(pool.map(ask, range(number)))
        seconds = perf_counter() - began
    good = [answer.json() for _, answer in answers if answer.status_code == 202]
    with accepted.open("a") as file:
        file.writelines(f"task_id {given['task_id']}\n" for given in good)
    return Burst([time for time, _ in answers], seconds, number - len(good))


def _locust(environment: dict[str, str], asked: argparse.Namespace) -> list[dict[str, object]]:
    """Run the users in a process of their own; Locust's figures."""
    file = Path(__file__).with_name("users.py")
    argv = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        file,
        "--headless",
        "--json",
        "--host",
        base_url(environment),
        "-u",
        str(asked.users),
        "-r",
        str(max(1, asked.users // 5)),
        "-t",
        f"{asked.seconds}s",
        "--stop-timeout",
        "30",
        "--exit-code-on-error",
        "0",
        "--loglevel",
        "WARNING",
    ]
    ran = subprocess.run(  # noqa: S603
        argv,
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=asked.seconds + 120,
    )
    if ran.returncode or "[" not in ran.stdout:
        raise SystemExit(f"Locust ended with {ran.returncode}:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout[ran.stdout.index("[") :])


if __name__ == "__main__":
    sys.exit(main())
