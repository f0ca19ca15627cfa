"""The benchmark beside other libraries: its own logic, and one small run of our own driver. No peer is needed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from pathlib import Path

import psutil
import pytest

from benchmarks.peers import environment, wrk
from benchmarks.peers.__main__ import main, parse, ready
from benchmarks.peers.environment import HERE, NotFound
from benchmarks.peers.group import PeerFailed, call, running
from benchmarks.peers.libraries import LIBRARIES, OURS, THREADS
from benchmarks.peers.load import load
from benchmarks.peers.platform import main as platform_main
from benchmarks.peers.results import Results, cell
from benchmarks.peers.stores import stores
from benchmarks.peers.workloads import rate, sample
from tests.fixtures.valkey import RunningValkey

WRK = """\
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    33.12ms   20.08ms 187.60ms   93.02%
  Latency Distribution
     50%  950.00us
     99%    1.50s
  3176 requests in 5.03s, 617.21KB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 76
Requests/sec:    631.28
"""


def nothing() -> None:
    """No worker to check."""


def test_a_small_run_measures_ours_and_names_a_peer_that_is_not_there(
    valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`valkey` is not used; it skips the test where no server can run."""

    def missing() -> environment.Runtime:
        raise NotFound("Ruby is not on PATH")

    monkeypatch.setitem(environment.RUNTIMES, "ruby", missing)
    monkeypatch.setitem(LIBRARIES, OURS, dataclasses.replace(LIBRARIES[OURS], setups=(THREADS,)))
    options = parse(["--peers", "sidekiq", "--jobs", "60", "--round-trips", "3"])
    with stores() as servers:
        benches = ready(options, servers)
        produced = {figure.workload: figure for figure in benches[OURS].produce({"W1", "W1b", "W5"})}
        worked = {figure.workload: figure for figure in benches[OURS].work(THREADS, {"W2", "W3", "CPU"})}
        stored = servers.redis.results()

    assert list(benches) == [OURS]
    assert capsys.readouterr().err == "sidekiq is skipped: Ruby is not on PATH\n"
    assert produced.keys() == {"W1", "W5", "W1b"}
    assert worked.keys() == {"W2", "W3", "CPU"}
    assert all(figure.value > 0 for figure in [*produced.values(), *worked.values()])
    assert 100 < produced["W5"].value < 600
    assert worked["W3"].more["p95"] >= worked["W3"].value
    assert stored == 21 + 23 + 80  # the first answer, the round trips and the full queue, each with what warms up


def test_a_rate_is_that_of_the_middle() -> None:
    line = [(float(second), 10 * second) for second in range(101)]
    start = [(0.0, 0), (90.0, 0)]

    assert rate(line, 0.1, 0.95) == pytest.approx(10)
    assert rate([*start, *((90 + at, count) for at, count in line)], 0.1, 0.95) == pytest.approx(10)
    assert rate([(0.0, 0), (2.0, 100)], 0.1, 0.95) == pytest.approx(50)


@pytest.mark.parametrize(
    ("counts", "jobs", "idle_seconds", "last"), [([0, 3, 9, 9], 8, 5.0, 8), ([0, 5, *[5] * 1000], 1000, 0.01, 5)]
)
def test_counting_ends_with_the_last_job_or_when_nothing_is_done(
    counts: list[int], jobs: int, idle_seconds: float, last: int
) -> None:
    left = iter(counts)
    found = sample(
        lambda: next(left), jobs, until=float("inf"), poll_seconds=0.001, check=nothing, idle_seconds=idle_seconds
    )

    assert found[-1][1] == last


def test_workers_that_do_nothing_have_failed() -> None:
    with pytest.raises(PeerFailed, match="no job was done in time"):
        sample(lambda: 0, 10, until=0, poll_seconds=0, check=nothing)


def test_ratios_are_to_the_best_of_a_peer_and_less_may_be_better() -> None:
    results = Results()
    for row, workload, values in (
        ("laneway solo", "W2", [100, 300, 200]),
        ("laneway solo", "W3", [4]),
        ("peer a", "W2", [50]),
        ("peer b", "W2", [400]),
        ("peer a", "W3", [1]),
        ("peer b", "W3", [2]),
    ):
        for value in values:
            results.add(row, workload, value)

    assert results.ratios("laneway", ["peer", "absent"], ["W2", "W3"]) == {"peer": {"W2 solo": 0.5, "W3 solo": 0.25}}
    assert cell([100, 300, 200]) == "200 (100-300)"
    assert cell([0.517]) == "0.52"
    assert json.loads(results.to_json({"cpu": 2}, {}))["figures"]["laneway solo"]["W2"] == [100, 300, 200]


def test_nothing_of_a_group_is_left(tmp_path: Path) -> None:
    script = "sleep 300 & echo $! > child; mv child started; sleep 300"
    with pytest.raises(ZeroDivisionError), running([["sh", "-c", script]], environment={}, folder=tmp_path) as workers:
        while not (tmp_path / "started").exists():
            workers.check()
        child = psutil.Process(int((tmp_path / "started").read_text()))
        workers.pause()
        _ = 1 / 0

    child.wait(10)
    assert not child.is_running()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'no error here' >&2; echo 'Error: no package' >&2; echo '  at main' >&2; exit 3",
            "with 3: Error: no pack",
        ),
        ("echo hello", "no JSON: hello"),
        ("sleep 300", "did not end within"),
    ],
)
def test_a_driver_that_fails_says_why(script: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=said):
        call(["sh", "-c", script], environment={}, folder=tmp_path, seconds=0.3 if "300" in script else 30)


def test_a_worker_that_ended_is_noticed(tmp_path: Path) -> None:
    with running([["false"]], environment={}, folder=tmp_path) as workers, pytest.raises(PeerFailed, match="a worker"):
        while True:
            workers.check()


def test_packages_are_installed_once_and_again_when_the_list_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm, wanted = tmp_path / "bin" / "npm", tmp_path / "package.json"
    npm.parent.mkdir()
    npm.write_text(
        f"#!/bin/sh\necho run >> {tmp_path}/runs\ngrep -q good {wanted} || {{ echo 'no such package' >&2; exit 1; }}\n"
    )
    (npm.parent / "node").write_text("#!/bin/sh\n")
    for program in npm.parent.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    for name, value in (("HERE", tmp_path), ("ROOT", tmp_path), ("NODE", tmp_path / "installed")):
        monkeypatch.setattr(environment, name, value)

    def runs() -> int:
        return len((tmp_path / "runs").read_text().splitlines())

    wanted.write_text("good")
    assert environment.node.__wrapped__().program == str(npm.parent / "node")
    environment.node.__wrapped__()
    assert runs() == 1
    wanted.write_text("other")
    for _ in range(2):  # a failed installation is not taken for a good one
        with pytest.raises(NotFound, match="npm failed: no such package"):
            environment.node.__wrapped__()
    assert runs() == 3


def test_without_node_its_peers_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="not on PATH"):
        environment.node.__wrapped__()
    with pytest.raises(NotFound, match="ruby-sidekiq"):
        environment.ruby.__wrapped__()


def test_the_load_counts_what_was_accepted_and_what_was_not() -> None:
    statuses = iter([202, 503, 500] * 100_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(1000):
            assert head.startswith(b"POST /tasks HTTP/1.1\r\n")
            assert head.endswith(b"\r\n\r\n{}")
            writer.write(f"HTTP/1.1 {next(statuses)} -\r\nContent-Length: 4\r\n\r\nab".encode())
            await writer.drain()
            writer.write(b"cd")
        writer.close()

    async def measure() -> dict[str, float]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await load(f"http://127.0.0.1:{port}/tasks", 3, 0.1, b"{}")

    found = asyncio.run(measure())
    assert found["accepted"] >= 1
    assert found["accepted"] * 2 == pytest.approx(found["failed"], abs=4)
    assert 0 < found["p50"] <= found["p99"]


def test_the_output_of_wrk_is_understood() -> None:
    assert wrk.parse(WRK) == pytest.approx({"accepted": 3100, "failed": 79, "seconds": 5.03, "p50": 0.95, "p99": 1500})
    with pytest.raises(PeerFailed, match="unable to connect"):
        wrk.parse("unable to connect")


def test_every_library_has_a_driver_and_every_package_a_version() -> None:
    names = {f"{library.driver}.py" if "." not in library.driver else library.driver for library in LIBRARIES.values()}
    pinned = [*(HERE / "requirements.txt").read_text().splitlines()[1:]]
    packages = json.loads((HERE / "package.json").read_text())["dependencies"]

    assert names <= {path.name for path in environment.DRIVERS.iterdir()}
    assert [line for line in pinned if not re.fullmatch(r"[\w\[\]-]+==[\d.]+", line)] == []
    assert [version for version in packages.values() if not re.fullmatch(r"[\d.]+", version)] == []
    assert not [path for path in HERE.rglob("*lock*") if "node_modules" not in path.parts]


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for run, argv in ((main, ["--peers", "nobody"]), (main, ["--jobs", "0"]), (platform_main, ["--systems", "nobody"])):
        with pytest.raises(SystemExit, match="2"):
            run(argv)
        assert re.search("takes names of|must be 1 or more", capsys.readouterr().err)
