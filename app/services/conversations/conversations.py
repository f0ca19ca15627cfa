"""Conversations: store what was said, answer from the documents, follow up. A repeat stores nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

from sqlalchemy.orm import Session

from app.core.settings import Settings
from app.db.models import Conversation, Message
from app.db.queries import conversations as repository
from app.schemas.conversation import Continuation, ConversationMessage, ConversationView, Interaction, MessageView
from app.services.conversations.responders import Reply, Responder, SourcePassage, Turn
from app.services.documents.knowledge import Knowledge
from app.services.leads.leads import Leads
from laneway.platform import clock
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from laneway.platform.logging import logger
from laneway.platform.schemas.outbound_webhook import OutboundWebhook
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

HISTORY_TURNS = 20
"""Turns that a responder sees."""
FOLLOW_UPS_AT_ONCE = 200

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Said:
    """One outbound turn to be stored."""

    conversation_id: str
    message_id: str
    role: str
    task_id: str
    reply: Reply
    duration_ms: int
    in_reply_to: str | None = None
    follow_ups: int = 0


class Conversations:
    """What can be done in and with a conversation."""

    def __init__(
        self,
        database: Database,
        knowledge: Knowledge,
        responder: Responder,
        tasks: TaskManager,
        settings: Settings,
        *,
        leads: Leads,
    ) -> None:
        self._database, self._knowledge, self._responder, self._tasks = database, knowledge, responder, tasks
        self._settings, self._leads = settings, leads

    def receive(self, payload: ConversationMessage, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """Store a customer's message and answer it."""
        message_id = f"{payload.conversation_id}/{payload.message_id or task_id}"
        self._store_customer(
            payload.conversation_id,
            channel=payload.channel,
            text=payload.text,
            task_id=task_id,
            message_id=message_id,
            customer=_known(payload),
        )
        return self._answer(payload.conversation_id, payload.text, message_id, task_id=task_id, progress=progress)

    def interact(self, payload: Interaction, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """Open or continue a conversation after an interaction, and write the outbound message."""
        if payload.is_test:
            return {"conversation_id": payload.conversation_id, "skipped": "a test interaction"}
        message_id = f"{payload.conversation_id}/{payload.event_id}"
        self._store_customer(
            payload.conversation_id,
            channel=payload.channel,
            text=payload.text,
            task_id=task_id,
            message_id=message_id,
            customer=_known(payload),
        )
        lead = payload.kind == "lead_form" and self._store_lead(payload)
        answer = self._answer(payload.conversation_id, payload.text, message_id, task_id=task_id, progress=progress)
        return {**answer, "lead_created": lead}

    def continue_(self, payload: Continuation, *, task_id: str, progress: Progress) -> dict[str, Any]:
        """The next outbound turn: a reminder, or an operator's request. Skipped when the customer spoke meanwhile."""
        message_id = f"{payload.conversation_id}/{task_id}"
        with self._database.reading() as session:
            conversation = _found(session, payload.conversation_id)
            turns = repository.newest(session, payload.conversation_id, limit=HISTORY_TURNS)
            done = repository.message(session, message_id)
        if done:
            return _result(done)
        if payload.reason == "no_reply" and turns and turns[-1].role == "customer":
            return {"conversation_id": payload.conversation_id, "skipped": "the customer has written meanwhile"}
        progress(30, "writing the next turn")
        started = monotonic()
        reply, role = self._next_turn(payload, turns)
        return self._say(
            Said(
                payload.conversation_id,
                message_id,
                role,
                task_id,
                reply,
                _since(started),
                follow_ups=conversation.follow_ups + 1,
            )
        )

    def queue_follow_ups(self) -> int:
        """Queue a reminder for each conversation whose customer has been silent too long; each silence once."""
        before = clock.now() - timedelta(hours=self._settings.responder.follow_up_hours)
        with self._database.reading() as session:
            idle = repository.idle(session, before=before, limit=FOLLOW_UPS_AT_ONCE)
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

    def _store_customer(
        self, id: str, *, channel: str, text: str | None, message_id: str, task_id: str, customer: dict[str, Any]
    ) -> None:
        now = clock.now()
        with self._database.transaction() as session:
            repository.open_or_continue(session, id, channel=channel, customer=customer, now=now)
            if text and repository.add_message(
                session,
                conversation_id=id,
                message_id=message_id,
                role="customer",
                text=text,
                task_id=task_id,
                created_at=now,
            ):
                repository.touch(session, id, status=repository.OPEN, now=now, follow_ups=0)

    def _store_lead(self, payload: Interaction) -> bool:
        fields = {**payload.details, **_known(payload)}
        with self._tasks.transaction() as unit:
            return self._leads.add_from(
                unit,
                source=payload.channel,
                source_id=payload.event_id,
                fields=fields,
                conversation_id=payload.conversation_id,
            )

    def _answer(
        self, id: str, text: str | None, message_id: str, *, task_id: str, progress: Progress
    ) -> dict[str, Any]:
        reply_id = f"{message_id}/reply"
        with self._database.reading() as session:
            done = repository.message(session, reply_id)
            asked = repository.message(session, message_id)
            turns = repository.newest(session, id, limit=HISTORY_TURNS, before_id=asked.id if asked else None)
        if done:
            return _result(done)
        started = monotonic()
        reply = self._reply(text, _turns(turns), progress)
        return self._say(Said(id, reply_id, "assistant", task_id, reply, _since(started), in_reply_to=message_id))

    def _reply(self, text: str | None, history: list[Turn], progress: Progress) -> Reply:
        if text is None:  # a form or a click without words: open the conversation
            return self._responder.follow_up(history=history, passages=[], reason="operator")
        progress(20, "searching the documents")
        passages = self._passages(text)
        progress(50, f"writing the reply from {len(passages)} passages")
        return self._responder.reply(text, history=history, passages=passages)

    def _next_turn(self, payload: Continuation, turns: list[Message]) -> tuple[Reply, str]:
        if payload.text:
            return Reply(text=payload.text, sources=(), responder="operator"), "operator"
        asked = next((turn.text for turn in reversed(turns) if turn.role == "customer"), "")
        passages = self._passages(asked)
        return self._responder.follow_up(history=_turns(turns), passages=passages, reason=payload.reason), "assistant"

    def _say(self, said: Said) -> dict[str, Any]:
        now, reply = clock.now(), said.reply
        sources = [source.model_dump() for source in reply.sources]
        with self._database.transaction() as session:
            repository.add_message(
                session,
                conversation_id=said.conversation_id,
                message_id=said.message_id,
                role=said.role,
                text=reply.text,
                in_reply_to=said.in_reply_to,
                sources=sources,
                responder=reply.responder,
                duration_ms=said.duration_ms,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                task_id=said.task_id,
                created_at=now,
            )
            repository.touch(
                session, said.conversation_id, status=repository.AWAITING_CUSTOMER, now=now, follow_ups=said.follow_ups
            )
            result = _result(_stored(session, said.message_id))
        self._notify(said, result)
        return result

    def _notify(self, said: Said, result: dict[str, Any]) -> None:
        url = self._settings.outbound.url
        if url:
            self._tasks.submit(
                "send_webhook_response_task",
                OutboundWebhook(url=url, event="message.created", data=result),
                id=f"{said.task_id}:notify",
            )

    def _passages(self, text: str) -> list[SourcePassage]:
        return [
            SourcePassage(
                document_id=found.document_id,
                title=found.title,
                position=found.position,
                text=found.text,
                score=found.score,
            )
            for found in self._knowledge.search(text)
        ]


def _found(session: Session, id: str) -> Conversation:
    conversation = repository.find(session, id)
    if conversation is None:
        raise NotFound("conversation", id)
    return conversation


def _stored(session: Session, message_id: str) -> Message:
    message = repository.message(session, message_id)
    if message is None:
        raise NotFound("message", message_id)
    return message


def _known(payload: ConversationMessage | Interaction) -> dict[str, Any]:
    return payload.customer.model_dump(exclude_none=True) if payload.customer else {}


def _turns(messages: list[Message]) -> list[Turn]:
    return [Turn(role=message.role, text=message.text) for message in messages]


def _since(started: float) -> int:
    return round((monotonic() - started) * 1000)


def _result(message: Message) -> dict[str, Any]:
    return {
        "conversation_id": message.conversation_id,
        "message_id": message.message_id,
        "reply": message.text,
        "sources": message.sources,
        "responder": message.responder,
        "duration_ms": message.duration_ms,
        "prompt_tokens": message.prompt_tokens,
        "completion_tokens": message.completion_tokens,
    }


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
                text=turn.text,
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
