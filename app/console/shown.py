"""What several pages show: the tasks behind a thing, and values of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Path, Query

from app.api.scopes import CONVERSATIONS, DOCUMENTS
from app.services.container import Services
from laneway.api.deps import NO_NULL
from laneway.console.rendering import Pages
from laneway.platform.access.caller import current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.platform.submission.ordering_keys import ordering_key

GROUP: Final = "Application"
"""The heading of these pages in the navigation."""
PAGE: Final = 50
"""Rows of a list."""
TASKS: Final = 20
"""Tasks of one thing that its page lists."""

Word = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
"""A filter; an empty one selects all."""
Id = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL)]
"""What a person may write as an id. One that cannot exist is not found, and the page says so."""

pages = Pages("app.console")


def rights() -> Mapping[str, bool]:
    """Where the caller may be led from a page, as values of its template."""
    caller = current_caller()
    return {
        "may_read_tasks": caller.may(Scope.READ),
        "may_read_conversations": caller.may(CONVERSATIONS),
        "may_read_documents": caller.may(DOCUMENTS),
    }


def tasks_of(services: Services, key: str) -> Mapping[str, Any]:
    """The newest tasks with an ordering key, as values of a template; none if the caller may not read tasks."""
    if not current_caller().may(Scope.READ):
        return {"tasks": [], "tasks_key": ""}
    found, _ = services.tasks.search(Filter(key=ordering_key(key)), limit=TASKS)
    return {"tasks": found, "tasks_key": ordering_key(key)}
