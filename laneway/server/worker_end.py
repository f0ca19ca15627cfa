"""Stores how a worker ended, so that the attempts that it lost say it: only its supervisor knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from celery.utils.nodenames import host_format
from sqlalchemy.exc import SQLAlchemyError

from laneway.platform.db.queries import workers
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.settings import Settings

WAITS: Final = 3.0
"""Seconds to wait for a database that another program holds. The restart of the worker waits as long."""


def note_end_of_worker(settings: Settings, nodename: str) -> Callable[[str], None]:
    """Return a function that stores how the worker ended; `%h` in its name is this host.

    Where the database cannot be used, the attempts only say that the worker died or stalled.
    """
    name = host_format(nodename)

    def note(how: str) -> None:
        database = Database(settings.storage.url)
        try:
            with limit_waits(WAITS), database.transaction() as session:
                workers.note_end(session, name, how=how)
        except (DatabaseUnavailable, SQLAlchemyError):
            return
        finally:
            database.close()

    return note
