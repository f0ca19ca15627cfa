"""The credential of a program of the platform that calls the platform's own API, such as `laneway up`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager

from laneway.platform.access.tokens import Tokens
from laneway.platform.db.session import Database
from laneway.platform.settings import Settings


@contextmanager
def own_credential(settings: Settings, purpose: str, *scopes: str) -> Generator[dict[str, str]]:
    """The headers for requests in this block: those of a token that is deleted afterwards; none without authentication.

    The tables must exist. Raises DatabaseUnavailable.
    """
    if not settings.is_authenticating:
        yield {}
        return
    with closing(Database(settings.storage.url)) as database, Tokens(database).temporary(purpose, *scopes) as token:
        yield {"Authorization": f"Bearer {token}"}
