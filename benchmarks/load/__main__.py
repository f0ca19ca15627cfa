"""`python -m benchmarks.load`: start a platform, put many users on it, and account for every accepted task.

Exit code 0: every request succeeded, and every accepted task completed.
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
    """Run the whole benchmark; returns the exit code."""
    arguments = _arguments()
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    with (
        TemporaryDirectory(prefix="laneway-load-") as name,
        running(Path(name), database=arguments.database) as environment,
    ):
        folder = Path(name)
        objects = _objects(folder / "data" / "objects")
        accepted = folder / "accepted"
        accepted.touch()
        locust_environment = environment | {"LOAD_ACCEPTED": str(accepted), "LOAD_OBJECTS": json.dumps(objects)}
        if arguments.burst:
            show_burst(out, _burst(base_url(environment), arguments.burst, accepted))
        out.print(f"{arguments.users} users for {arguments.seconds} s on {os.cpu_count()} cores ...")
        failed = show(out, _locust(locust_environment, arguments), seconds=arguments.seconds)
        os.environ.update(environment)
        result = account(accepted, seconds=arguments.drain)
        show_account(out, result)
    return 0 if result.is_good and not failed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument(
        "--burst", type=int, default=100, help="workflow requests to send at once, before the users start"
    )
    parser.add_argument("--drain", type=int, default=300, help="seconds to wait for the remaining work after the load")
    parser.add_argument("--database", help="DATABASE_URL; default: a SQLite file, as with `make up`")
    return parser.parse_args()


def _objects(folder: Path) -> list[str]:
    """Copy the example documents into the storage; returns their keys."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix == ".md"]
    for path in files:
        shutil.copy(path, folder)
    return [path.name for path in files]


def _burst(url: str, number: int, accepted: Path) -> Burst:
    """Send `number` workflow requests at the same moment."""
    context = {"workflow_type": "savings_assessment", "calculator_inputs": CALCULATION}
    barrier = Barrier(number)

    def post(caller: int) -> tuple[float, httpx2.Response]:
        body = {"agent_id": f"burst-{caller}", "mode": "execute", "context": context}
        with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
            barrier.wait()
            began = perf_counter()
            response = client.post("/api/chat", json=body)
            return (perf_counter() - began) * 1000, response

    with ThreadPoolExecutor(number) as pool:
        began = perf_counter()
        responses = list(pool.map(post, range(number)))
        seconds = perf_counter() - began
    bodies = [response.json() for _, response in responses if response.status_code == 202]
    with accepted.open("a") as file:
        file.writelines(f"task_id {body['task_id']}\n" for body in bodies)
    return Burst([time for time, _ in responses], seconds, number - len(bodies))


def _locust(environment: dict[str, str], arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Run the users in a Locust process; returns Locust's figures."""
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
        str(arguments.users),
        "-r",
        str(max(1, arguments.users // 5)),
        "-t",
        f"{arguments.seconds}s",
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
        timeout=arguments.seconds + 120,
    )
    if ran.returncode or "[" not in ran.stdout:
        raise SystemExit(f"Locust ended with {ran.returncode}:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout[ran.stdout.index("[") :])


if __name__ == "__main__":
    sys.exit(main())
