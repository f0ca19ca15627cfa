"""The mapping in force: read from its file, again whenever the file changes.

A file that is not valid changes nothing: the mapping that was valid last stays in force. It is kept in the database,
so that it is in force in a process that starts afterwards, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from app.db.models import WebhookMapping
from app.db.queries import webhooks as repository
from app.services.webhooks.mapping.errors import InvalidMapping
from app.services.webhooks.mapping.loading import load_mapping
from app.services.webhooks.mapping.rules import Mapping
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.logging import logger

log = logger(__name__)

Stamp = tuple[int, int, int] | None
"""Time of change, size and inode of the file; None: it cannot be found."""


@dataclass(frozen=True, slots=True)
class MappingInForce:
    """The mapping that decides now, and what is wrong with the file if it is another one."""

    file: str
    mapping: Mapping | None
    """None: there never was a valid one."""
    problem: str | None = None
    """Why the file is not in force."""


class CurrentMapping:
    """Gives the mapping in force. Safe in several threads."""

    def __init__(self, database: Database, file: Path) -> None:
        self._database, self._file = database, file
        self._lock = Lock()
        self._stamp: Stamp = None
        self._current: MappingInForce | None = None

    def get(self) -> MappingInForce:
        """The mapping in force, after a look at the file. Raises DatabaseUnavailable."""
        stamp = _stamp(self._file)
        with self._lock:
            if self._current is None or stamp != self._stamp:
                self._current, self._stamp = self._read(), stamp
            return self._current

    def _read(self) -> MappingInForce:
        file = str(self._file)
        try:
            text = self._file.read_text("utf-8-sig")
            mapping = load_mapping(text, file=file)
        except (InvalidMapping, OSError, UnicodeDecodeError) as error:
            problem = str(error) if isinstance(error, InvalidMapping) else f"{file} cannot be read: {error}"
            log.error("webhook mapping is not valid; the last valid one stays in force", file=file, problem=problem)
            return MappingInForce(file, self._last_valid(), problem)
        self._keep(text)
        log.info("webhook mapping is in force", file=file, rules=len(mapping.rules))
        return MappingInForce(file, mapping)

    def _last_valid(self) -> Mapping | None:
        if self._current is not None and self._current.mapping is not None:
            return self._current.mapping
        with self._database.reading() as session:
            kept = repository.kept_mapping(session)
        try:
            return load_mapping(kept.content, file=kept.file) if kept else None
        except InvalidMapping as error:  # it names a task of another version
            log.error("the last valid webhook mapping cannot be used any more", problem=str(error))
            return None

    def _keep(self, text: str) -> None:
        try:
            self._store(text)
        except DatabaseUnavailable as error:  # a full disk, for example; the mapping is in force without it
            log.warning("webhook mapping could not be kept as the last valid one", problem=str(error))

    def _store(self, text: str) -> None:
        digest = hashlib.sha256(text.encode()).hexdigest()
        with self._database.reading() as session:
            kept: WebhookMapping | None = repository.kept_mapping(session)
        if kept is None or kept.digest != digest:
            with self._database.transaction() as session:
                repository.keep_mapping(session, file=str(self._file), content=text, digest=digest, now=clock.now())


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
