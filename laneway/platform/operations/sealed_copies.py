"""What is encrypted outside of the database: large payloads in the storage, and Celery's results.

A large payload has a new name when it is encrypted again, because its reference has the digest of its content. So it is
done in an order that a crash does not harm: 1. write the new object; 2. put its reference into the row; 3. delete the
old object. What a crash leaves behind has no row, and retention deletes it. A task that is not over, and a dead letter,
have a message with the reference: they keep the old object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries.retention import stored_payload_page
from laneway.platform.db.session import Database
from laneway.platform.errors import UnknownTask
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import STORED, PayloadLost, name_of
from laneway.platform.sealing import Sealer, form_of
from laneway.platform.settings import TaskSettings
from laneway.schemas.task import FINISHED, TaskState

PAGE: Final = 50
"""Large payloads that are looked at between two reports. One is in memory at a time."""
RESULTS: Final = 200
WITHOUT_MESSAGE: Final = frozenset(FINISHED) - {TaskState.DEAD_LETTER}
"""States of a task whose message is gone, so that only its row refers to its payload."""


class StoredPayloads:
    """The large payloads of the rows."""

    def __init__(self, database: Database, settings: TaskSettings) -> None:
        self._database, self._store, self._sealer = database, settings.payload_store, settings.sealer

    def encrypt_again(self) -> Iterator[int]:
        """Encrypt the payloads of tasks that are over with the current key; yields how many of each page.

        Raises StorageUnavailable, KeysMissing, SealedUnreadable.
        """
        older = [form_of(key) for key in self._sealer.older_keys]
        for page in self._pages() if older else ():
            over = [row for row in page if row.state in WITHOUT_MESSAGE]
            yield sum(self._replace(row.id, row.payload) for row in over if self._has(row.payload, older))

    def count(self, key: str) -> Iterator[int]:
        """Yield how many payloads of each page are encrypted with this key. Raises StorageUnavailable."""
        for page in self._pages():
            yield sum(self._has(row.payload, [form_of(key)]) for row in page)

    def _pages(self) -> Iterator[list[TaskRun]]:
        after = 0
        while True:
            with self._database.reading() as session:
                page = stored_payload_page(session, like=STORED, after=after, limit=PAGE)
            if not page:
                return
            if self._store.url is None:
                raise StorageUnavailable("PAYLOAD_STORAGE is not set, and tasks have payloads in it")
            yield page
            after = page[-1].seq

    def _has(self, reference: dict[str, Any], forms: list[str]) -> bool:
        """Whether a payload has a part that is encrypted with one of the keys; False if it is lost."""
        try:
            text = json.dumps(self._store.read(name_of(reference)))
        except PayloadLost:
            return False
        return any(form in text for form in forms)

    def _replace(self, id: str, reference: dict[str, Any]) -> bool:
        new = self._store.stored(self._sealer.again(self._store.read(name_of(reference))), id=id)
        if not self._refer(id, reference, new):
            self._store.drop(new)
            return False
        self._store.drop(reference)
        return True

    def _refer(self, id: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Put a reference into the row; False if the row has changed since, or is gone."""
        try:
            with self._database.transaction() as session:
                run = task_runs.get(session, id, lock=True)
                if run.state not in WITHOUT_MESSAGE or run.payload != old:
                    return False
                run.payload = new
        except UnknownTask:
            return False
        return True


class SealedResults:
    """Celery's results, and the parts of chords whose bodies have not begun."""

    def __init__(self, results: CeleryResults, sealer: Sealer) -> None:
        self._results, self._sealer = results, sealer

    def encrypt_again(self) -> Iterator[int]:
        """Encrypt results with the current key; yields how many of each page. Raises ResultStoreUnavailable.

        Parts of chords stay as they are: the bodies take them soon, or they expire.
        """
        older = [form_of(key) for key in self._sealer.older_keys]

        def again(contents: Any) -> Any:
            return self._sealer.again(contents) if _has_form(contents, older) else None

        for ids in self._results.ids(page=RESULTS) if older and self._results.listable else ():
            yield self._results.rewrite(ids, again)

    def count(self, key: str) -> Iterator[int]:
        """Yield how many of each page are encrypted with this key. Raises ResultStoreUnavailable."""
        if not self._results.listable:
            return
        forms = [form_of(key)]
        for ids in self._results.ids(page=RESULTS):
            yield sum(_has_form(contents, forms) for _, contents in self._results.contents(ids))
        for part in self._results.chord_parts(page=RESULTS):
            yield int(_has_form(part, forms))


def _has_form(contents: Any, forms: list[str]) -> bool:
    text = contents.decode("utf-8", "replace") if isinstance(contents, bytes) else json.dumps(contents, default=str)
    return any(form in text for form in forms)
