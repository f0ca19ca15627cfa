"""Several writers of one SQLite file in one process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import func, select

from app.core import clock
from app.core.config import ROOT
from app.db.models import Report
from app.db.session import Database

GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys
import gevent
from app.core import clock
from app.db.models import Report
from app.db.session import Database

database = Database(sys.argv[1])

def write(number):
    with database.transaction() as session:
        session.add(Report(id=str(number), kind="test", data={}, created_at=clock.now()))
        session.flush()
        gevent.sleep(0.05)  # as one does that talks to another server in between
    return number

print(sorted(gevent.pool.Pool(5).map(write, range(5))))
"""


def count(database: Database) -> int:
    """How many reports there are."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Report)) or 0


def test_threads_write_one_after_the_other(sqlite_database: Database) -> None:
    def write(number: int) -> None:
        with sqlite_database.transaction() as session:
            session.add(Report(id=str(number), kind="test", data={}, created_at=clock.now()))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(200)))

    assert count(sqlite_database) == 200


def test_an_error_lets_the_next_writer_in(sqlite_database: Database) -> None:
    for _ in range(2):
        try:
            with sqlite_database.transaction():
                raise ValueError
        except ValueError:
            pass

    assert count(sqlite_database) == 0


def test_greenlets_that_wait_for_something_else_while_they_write_do_not_lock_each_other_out(
    sqlite_database: Database, tmp_path: Path
) -> None:
    url = sqlite_database.url.render_as_string(hide_password=False)
    script = tmp_path / "greenlets.py"
    script.write_text(GREENLETS.replace("import gevent\n", "import gevent\nimport gevent.pool\n"))

    ran = subprocess.run([sys.executable, script, url], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True,
                         text=True, check=False, timeout=100)  # fmt: skip

    assert ran.stdout.strip() == "[0, 1, 2, 3, 4]", ran.stderr[-2000:]
    assert count(sqlite_database) == 5
