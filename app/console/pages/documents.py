"""The list of documents, and one document with its state, its problems, its text and the tasks that read it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.deps import ServicesDep
from app.api.scopes import DOCUMENTS
from app.console.shown import GROUP, PAGE, Id, Word, pages, rights, tasks_of
from app.schemas.document import DocumentState
from app.services.container import Services
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.console.rendering import PageRoute

router = APIRouter(
    prefix="/console/documents",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(DOCUMENTS)],
)
navigation = (NavigationEntry("Documents", "/console/documents", "m", DOCUMENTS, GROUP),)

PASSAGES: Final = 25
"""Passages on the page of a document."""
ENDED: Final = (DocumentState.PROCESSED, DocumentState.FAILED, DocumentState.CANCELLED)
"""The states in which a document can be processed again."""


@router.get("", dependencies=[OnlyKnown])
async def show_documents(
    request: Request,
    services: ServicesDep,
    state: Annotated[DocumentState | Literal[""], Query()] = "",
    user_id: Word = "",
    after: Word = "",
) -> Response:
    """Documents by id, beginning after the id `after`."""
    values = partial(_list_values, services, state, user_id, after)
    return await pages.show(request, "documents.html", values, live=not after)


@router.get("/{document_id:path}", dependencies=[OnlyKnown])
async def show_document_page(
    document_id: Id,
    request: Request,
    services: ServicesDep,
    at: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """A document, and those of its passages among which the position `at` is."""
    return await pages.show(request, "document.html", partial(_values, services, document_id, at))


def _list_values(services: Services, state: DocumentState | str, user_id: str, after: str) -> Mapping[str, Any]:
    selected = DocumentState(state) if state else None
    page = services.document_views.page(state=selected, user_id=user_id or None, after=after or None, limit=PAGE)
    return {
        "documents": page.documents,
        "next": page.next,
        "after": after,
        "given": {"state": state, "user_id": user_id},
        "states": list(DocumentState),
    }


def _values(services: Services, id: str, at: int) -> Mapping[str, Any]:
    document, start = services.document_views.document(id), at - at % PASSAGES
    return {
        "document": document,
        "name": document.title or document.file_name or document.document_id,
        "passages": services.document_views.passages(id, start=start, limit=PASSAGES),
        "previous": start - PASSAGES if start else None,
        "following": start + PASSAGES if document.passages > start + PASSAGES else None,
        "may_repeat": document.task_id is not None and document.state in ENDED,
        **tasks_of(services, f"document_id:{id}"),
        **rights(),
    }
