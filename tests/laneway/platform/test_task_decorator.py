"""A type checker knows the parameters of a task: it accepts right calls, and names each wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
CALLS = """
from typing import assert_type

from laneway import Chunk, ChunkContext, Context, Payload, task
from laneway.schemas.task import TaskHandle


class Thumbnail(Payload):
    url: str
    width: int = 64


@task(queue="thumbnails", retries=3)
def make_thumbnail(ctx: Context, payload: Thumbnail) -> dict[str, int]:
    return {"width": payload.width}


@task
def show(payload: Thumbnail) -> Thumbnail:
    return payload


@task()
def add(x: int, y: int = 1) -> dict[str, int]:
    return {"sum": x + y}


@task()
def import_rows(ctx: Context, path: str, *, size: int = 100) -> None:
    ctx.progress(50, "half", rows=3)


@task
def sweep(ctx: Context) -> None: ...


@task(queue="thumbnails", chunk=Chunk(size=9, seconds=1), cost=2)
def shrink(ctx: ChunkContext, payloads: list[Thumbnail]) -> list[dict[str, int] | Exception | None]:
    return [{"width": payload.width} for payload in payloads]


@task(chunk=Chunk(size=9, seconds=1))
def forget(payloads: list[Thumbnail]) -> None: ...


assert_type(shrink.submit(url="a"), TaskHandle)
forget.submit_many([Thumbnail(url="a"), {"url": "b"}])
assert_type(add.submit(1, y=2), TaskHandle)
assert_type(add(1, y=2), dict[str, int])
assert_type(add.submit_many([(1, 2), {"x": 1}], ids=["a", "b"]), list[TaskHandle])
assert_type(add.options(delay=60, priority="high", tags=["a"]).submit(1), TaskHandle)
make_thumbnail.submit(Thumbnail(url="a"))
make_thumbnail.submit(url="a", width=3)
make_thumbnail.submit_many([Thumbnail(url="a"), {"url": "b"}])
assert_type(show(Thumbnail(url="a")), Thumbnail)
import_rows.submit("a", size=3)
sweep.submit()


async def submit() -> None:
    assert_type(await add.submit_async(1), TaskHandle)
    assert_type(await add.options(id="a").submit_async(1), TaskHandle)
    assert_type(await show.submit_async(url="a"), TaskHandle)
    await add.submit_async("1")  # wrong


add.submit("1")  # wrong
add.submit()  # wrong
add.submit(1, z=2)  # wrong
add.options(dely=60)  # wrong
add.options(priority="urgent")  # wrong
add.options(delay=60).submit("1")  # wrong
add.submit_many(["ab"])  # wrong
make_thumbnail.submit("a")  # wrong
show.submit_many([("a",)])  # wrong
import_rows.submit("a", 3)  # wrong
sweep.submit(1)  # wrong
shrink.submit("a")  # wrong
forget.submit([Thumbnail(url="a")])  # wrong


@task  # wrong
def returns_a_list(x: int) -> list[int]:
    return [x]


@task(chunk=Chunk(size=9, seconds=1))  # wrong
def takes_one(payload: Thumbnail) -> None: ...


@task()  # wrong
def returns_a_number(x: int) -> int:
    return x
"""


def test_a_type_checker_knows_the_parameters_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS, "utf-8")
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(REPOSITORY)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")

    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "calls.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    found = json.loads(done.stdout)["generalDiagnostics"]
    problems = {each["range"]["start"]["line"]: each["message"] for each in found}
    wrong = {number for number, line in enumerate(CALLS.splitlines()) if line.endswith("# wrong")}
    assert set(problems) == wrong, problems
