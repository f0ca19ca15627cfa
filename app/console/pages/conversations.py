"""The list of conversations, and one conversation with its messages, its replies and the tasks that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from app.api.deps import ServicesDep
from app.api.scopes import CONVERSATIONS
from app.console.shown import GROUP, PAGE, Id, Word, pages, rights, tasks_of
from app.services.container import Services
from laneway.api.access import requires
from laneway.api.deps import OnlyKnown
from laneway.api.navigation import NavigationEntry
from laneway.api.parameters import LAST_ID, Timestamp
from laneway.console.rendering import PageRoute, path_of
from laneway.platform import clock

router = APIRouter(
    prefix="/console/conversations",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=[requires(CONVERSATIONS)],
)
navigation = (NavigationEntry("Conversations", "/console/conversations", "c", CONVERSATIONS, GROUP),)

MESSAGES: Final = 100
"""Messages on the page of a conversation."""
STATES: Final = {"open": "waits for a reply", "awaiting_customer": "answered"}
"""The status of a conversation → what it means."""


@router.get("", dependencies=[OnlyKnown])
async def show_conversations(
    request: Request,
    services: ServicesDep,
    id: Word = "",
    status: Annotated[Literal["", "open", "awaiting_customer"], Query()] = "",
    before: Annotated[Timestamp | None, Query()] = None,
    before_id: Word = "",
) -> Response:
    """Conversations, those that changed last first. `id`: the one with this id instead."""
    if id.strip():
        return RedirectResponse(f"/console/conversations/{path_of(id.strip())}", 303)
    last = clock.aware(before)
    place = (last, before_id) if last else None
    values = partial(_list_values, services, status, place)
    return await pages.show(request, "conversations.html", values, live=place is None)


@router.get("/{conversation_id:path}", dependencies=[OnlyKnown])
async def show_conversation_page(
    conversation_id: Id,
    request: Request,
    services: ServicesDep,
    before: Annotated[int | None, Query(ge=1, le=LAST_ID)] = None,
) -> Response:
    """A conversation with its newest messages, or those before the message `before`."""
    values = partial(_values, services, conversation_id, before)
    return await pages.show(request, "conversation.html", values, live=before is None)


def _list_values(services: Services, status: str, place: tuple[datetime, str] | None) -> Mapping[str, Any]:
    found = services.conversations.page(status=status or None, before=place, limit=PAGE)
    last = found[-1] if len(found) == PAGE else None
    return {
        "conversations": found,
        "next": {"before": last.updated_at.isoformat(), "before_id": last.conversation_id} if last else None,
        "is_first": place is None,
        "status": status,
        "states": STATES,
    }


def _values(services: Services, id: str, before: int | None) -> Mapping[str, Any]:
    view = services.conversations.view(id, limit=MESSAGES, before=before)
    return {
        "conversation": view,
        "name": view.customer.get("name") or view.conversation_id,
        "states": STATES,
        "older": view.messages[0].id if len(view.messages) == MESSAGES else None,
        "is_newest": before is None,
        **tasks_of(services, f"conversation_id:{id}"),
        **rights(),
    }
