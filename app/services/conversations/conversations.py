"""Conversations: store messages, reply from the documents, follow up. A repeated task stores nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from sqlalchemy.orm import Session

from app.core.settings import Settings
from app.db.models import Conversation, Message
from app.db.queries import conversations as repository
from app.schemas.conversation import (
    Continuation,
    ConversationHead,
    ConversationMessage,
    ConversationView,
    Interaction,
    MessageView,
)
from app.schemas.outbound_events import MESSAGE_CREATED
from app.services.conversations.responders import Reply, Responder, SourcePassage, Turn
from app.services.documents.passage_store import PassageStore
from app.services.leads.leads import Leads
from app.services.task_manager import TaskManager
from laneway.platform import clock
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from laneway.platform.logging import logger
from laneway.schemas.outbound_webhook import OutboundWebhook

log = logger(__name__)

HISTORY_TURNS: Final = 20
"""Number of turns that a responder sees."""
FOLLOW_UP_BATCH: Final = 200
"""The most reminders that one run of the schedule queues."""

EXCERPT: Final = 200
"""Characters of the newest message in a list of conversations."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message of the assistant or an operator that is ready to be stored."""

    conversation_id: str
    message_id: str
    role: str
    task_id: str
    reply: Reply
    duration_ms: int
    in_reply_to: str | None = None
    follow_ups: int = 0


class Conversations:
    """Processes messages and interactions, continues conversations, and returns their history."""

    def __init__(
        self,
        database: Database,
        passage_store: PassageStore,
        responder: Responder,
        tasks: TaskManager,
        settings: Settings,
        *,
        leads: Leads,
    ) -> None:
        self._database, self._passage_store, self._responder, self._tasks = database, passage_store, responder, tasks
        self._settings, self._leads = settings, leads

    def process_message(self, payload: ConversationMessage, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """Store a customer's message and reply to it."""
        message_id = f"{payload.conversation_id}/{payload.message_id or task_id}"
        self._store_customer_message(payload, task_id=task_id, message_id=message_id)
        return self._reply_to(payload.conversation_id, payload.message, message_id, task_id=task_id, progress=progress)

    def process_interaction(self, payload: Interaction, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """Open or continue a conversation after an interaction, and write the outbound message."""
        if payload.is_test:
            return {"conversation_id": payload.conversation_id, "skipped": "a test interaction"}
        message_id = f"{payload.conversation_id}/{payload.event_id}"
        self._store_customer_message(payload, task_id=task_id, message_id=message_id)
        lead_created = payload.kind == "lead_form" and self._store_lead(payload)
        result = self._reply_to(
            payload.conversation_id,
            payload.message,
            message_id,
            task_id=task_id,
            progress=progress,
            given=payload.reply,
        )
        return {**result, "lead_created": lead_created}

    def continue_conversation(self, payload: Continuation, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """Write the next outbound turn: a reminder, or an operator's request.

        A reminder is skipped when the customer has written meanwhile. Raises NotFound.
        """
        message_id = f"{payload.conversation_id}/{task_id}"
        with self._database.reading() as session:
            conversation = _require_conversation(session, payload.conversation_id)
            turns = repository.newest(session, payload.conversation_id, limit=HISTORY_TURNS)
            stored = repository.message(session, message_id)
        if stored:
            return _result(stored)
        if payload.reason == "no_reply" and turns and turns[-1].role == "customer":
            return {"conversation_id": payload.conversation_id, "skipped": "the customer has written meanwhile"}
        progress(30, "writing the next turn")
        started = monotonic()
        reply, role = self._write_next_turn(payload, turns)
        message = OutboundMessage(
            payload.conversation_id,
            message_id,
            role,
            task_id,
            reply,
            _milliseconds_since(started),
            follow_ups=conversation.follow_ups + 1,
        )
        return self._store_outbound(message)

    def draft(self, id: str) -> Reply:
        """Write the next turn of a conversation at an operator's request, without storing it. Raises NotFound."""
        with self._database.reading() as session:
            _require_conversation(session, id)
            turns = repository.newest(session, id, limit=HISTORY_TURNS)
        return self._write_next_turn(Continuation(conversation_id=id, reason="operator"), turns)[0]

    def answer(self, question: str) -> Reply:
        """Answer a question outside any conversation."""
        passages = self._search(question)
        return self._responder.reply(question, history=[], passages=passages, topics=self._topics(passages))

    def queue_follow_ups(self) -> int:
        """Queue one reminder for each customer who has been silent too long; returns the number of new reminders."""
        before = clock.now() - timedelta(hours=self._settings.responder.follow_up_hours)
        with self._database.reading() as session:
            idle = repository.idle(session, before=before, limit=FOLLOW_UP_BATCH)
        handles = [
            self._tasks.submit(
                "continue_conversation_async_task",
                Continuation(conversation_id=id, reason="no_reply"),
                id=f"follow-up:{newest}",
            )
            for id, newest in idle
        ]
        return sum(handle.created for handle in handles)

    def view(self, id: str, *, limit: int, before: int | None = None) -> ConversationView:
        """A conversation with its newest turns. Raises NotFound."""
        with self._database.reading() as session:
            waiting = task_runs.count_unfinished(session, f"conversation_id:{id}")
            conversation = repository.find(session, id)
            if conversation is None and not waiting:
                raise NotFound("conversation", id)
            turns = repository.newest(session, id, limit=limit, before_id=before)
            return _view(id, conversation, turns, total=repository.count_messages(session, id), waiting=waiting)

    def page(
        self, *, status: str | None = None, before: tuple[datetime, str] | None = None, limit: int
    ) -> list[ConversationHead]:
        """Conversations, those that changed last first.

        `before`: `updated_at` and `conversation_id` of the last one of the page before.
        """
        with self._database.reading() as session:
            found = repository.page(session, status=status, before=before, limit=limit)
            newest = repository.excerpts(session, [each.id for each in found], length=EXCERPT)
        return [_head(each, newest.get(each.id)) for each in found]

    def _store_customer_message(
        self, payload: ConversationMessage | Interaction, *, task_id: str, message_id: str
    ) -> None:
        id, now = payload.conversation_id, clock.now()
        with self._database.transaction() as session:
            customer = _customer_fields(payload)
            repository.open_or_continue(session, id, channel=payload.channel, customer=customer, now=now)
            if payload.message and repository.add_message(
                session,
                conversation_id=id,
                message_id=message_id,
                role="customer",
                text=payload.message,
                task_id=task_id,
                created_at=now,
            ):
                repository.touch(session, id, status=repository.OPEN, now=now, follow_ups=0)

    def _store_lead(self, payload: Interaction) -> bool:
        fields = {**payload.details, **_customer_fields(payload)}
        with self._tasks.transaction() as unit:
            return self._leads.add_from_source(
                unit,
                source=payload.channel,
                source_id=payload.event_id,
                fields=fields,
                conversation_id=payload.conversation_id,
            )

    def _reply_to(
        self,
        id: str,
        text: str | None,
        message_id: str,
        *,
        task_id: str,
        progress: Progress,
        given: str | None = None,
    ) -> dict[str, Any]:
        """Store the reply to a message, once. `given`: its text; without it the responder writes one."""
        reply_id = f"{message_id}/reply"
        with self._database.reading() as session:
            stored = repository.message(session, reply_id)
            question = repository.message(session, message_id)
            before_id = question.id if question else None
            turns = repository.newest(session, id, limit=HISTORY_TURNS, before_id=before_id)
        if stored:
            return _result(stored)
        started = monotonic()
        if given is not None:
            reply = Reply(text=given, sources=(), responder="mapping")
        else:
            reply = self._write_reply(text, _turns(turns), progress)
        duration = _milliseconds_since(started)
        message = OutboundMessage(id, reply_id, "assistant", task_id, reply, duration, in_reply_to=message_id)
        return self._store_outbound(message)

    def _write_reply(self, text: str | None, history: list[Turn], progress: Progress) -> Reply:
        if text is None:  # A form or a click has no text: the reply opens the conversation.
            return self._responder.follow_up(history=history, passages=[], reason="operator", topics=self._topics([]))
        progress(20, "searching the documents")
        passages = self._search(text)
        progress(50, f"writing the reply from {len(passages)} passages")
        return self._responder.reply(text, history=history, passages=passages, topics=self._topics(passages))

    def _write_next_turn(self, payload: Continuation, turns: list[Message]) -> tuple[Reply, str]:
        """The next turn and its role."""
        if payload.message:
            return Reply(text=payload.message, sources=(), responder="operator"), "operator"
        question = next((turn.text for turn in reversed(turns) if turn.role == "customer"), "")
        passages = self._search(question)
        reply = self._responder.follow_up(
            history=_turns(turns), passages=passages, reason=payload.reason, topics=self._topics(passages)
        )
        return reply, "assistant"

    def _store_outbound(self, message: OutboundMessage) -> dict[str, Any]:
        """Store an outbound message, report it to OUTBOUND_WEBHOOK_URL, and return the task's result."""
        now, reply = clock.now(), message.reply
        sources = [source.model_dump() for source in reply.sources]
        with self._database.transaction() as session:
            repository.add_message(
                session,
                conversation_id=message.conversation_id,
                message_id=message.message_id,
                role=message.role,
                text=reply.text,
                in_reply_to=message.in_reply_to,
                sources=sources,
                responder=reply.responder,
                duration_ms=message.duration_ms,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                task_id=message.task_id,
                created_at=now,
            )
            status = repository.AWAITING_CUSTOMER
            repository.touch(session, message.conversation_id, status=status, now=now, follow_ups=message.follow_ups)
            result = _result(_require_message(session, message.message_id))
        self._submit_webhook(message.task_id, result)
        return result

    def _submit_webhook(self, task_id: str, result: dict[str, Any]) -> None:
        url = self._settings.outbound.url
        if url:
            self._tasks.submit(
                "send_webhook_response_task",
                OutboundWebhook(url=url, event=MESSAGE_CREATED, data=result),
                id=f"{task_id}:notify",
            )

    def _search(self, text: str) -> list[SourcePassage]:
        return [
            SourcePassage(
                document_id=passage.document_id,
                title=passage.title,
                position=passage.position,
                text=passage.text,
                score=passage.score,
            )
            for passage in self._passage_store.search(text)
        ]

    def _topics(self, passages: list[SourcePassage]) -> list[str]:
        """Titles of documents, to say what there is if no passage was found."""
        return [] if passages else self._passage_store.titles()


def _require_conversation(session: Session, id: str) -> Conversation:
    conversation = repository.find(session, id)
    if conversation is None:
        raise NotFound("conversation", id)
    return conversation


def _require_message(session: Session, message_id: str) -> Message:
    message = repository.message(session, message_id)
    if message is None:
        raise NotFound("message", message_id)
    return message


def _customer_fields(payload: ConversationMessage | Interaction) -> dict[str, Any]:
    return payload.customer.model_dump(exclude_none=True) if payload.customer else {}


def _turns(messages: list[Message]) -> list[Turn]:
    return [Turn(role=message.role, text=message.text) for message in messages]


def _milliseconds_since(started: float) -> int:
    return round((monotonic() - started) * 1000)


def _result(message: Message) -> dict[str, Any]:
    return {
        "conversation_id": message.conversation_id,
        "message_id": message.message_id,
        "ai_response": message.text,
        "sources": message.sources,
        "responder": message.responder,
        "duration_ms": message.duration_ms,
        "prompt_tokens": message.prompt_tokens,
        "completion_tokens": message.completion_tokens,
    }


def _head(conversation: Conversation, newest: repository.Excerpt | None) -> ConversationHead:
    return ConversationHead(
        conversation_id=conversation.id,
        channel=conversation.channel,
        status=conversation.status,
        customer=conversation.customer,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        newest_role=newest.role if newest else None,
        newest_message=newest.text if newest else "",
    )


def _view(
    id: str, conversation: Conversation | None, turns: list[Message], *, total: int, waiting: int
) -> ConversationView:
    now = clock.now()
    return ConversationView(
        conversation_id=id,
        channel=conversation.channel if conversation else "api",
        status=conversation.status if conversation else "open",
        customer=conversation.customer if conversation else {},
        created_at=conversation.created_at if conversation else now,
        updated_at=conversation.updated_at if conversation else now,
        messages=[
            MessageView(
                id=turn.id,
                role=turn.role,
                message=turn.text,
                created_at=turn.created_at,
                sources=turn.sources,
                responder=turn.responder,
                duration_ms=turn.duration_ms,
                task_id=turn.task_id,
            )
            for turn in turns
        ],
        total_messages=total,
        unanswered=waiting,
    )
