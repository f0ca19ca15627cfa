"""What the application stores of a person: conversations, leads, documents, webhooks, reports."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.models import (
    Conversation,
    CrmRecord,
    Document,
    Lead,
    Message,
    Passage,
    Report,
    WebhookDelivery,
    WebhookEvent,
)
from laneway.platform.erasure.erasers import Found
from laneway.platform.erasure.scanning import rows_about
from laneway.platform.erasure.subject import Subject

BATCH: Final = 500
BY_CUSTOMER: Final = "customer"
"""The role of messages that customers wrote."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The keys of the rows about a person."""

    conversations: set[str]
    messages: set[int]
    """Messages of other conversations that mention the person."""
    leads: set[int]
    documents: set[str]
    deliveries: set[str]
    events: set[int]
    reports: set[str]

    @property
    def counts(self) -> dict[str, int]:
        return {
            "conversations": len(self.conversations),
            "messages": len(self.messages),
            "leads": len(self.leads),
            "documents": len(self.documents),
            "webhook_deliveries": len(self.deliveries),
            "webhook_events": len(self.events),
            "reports": len(self.reports),
        }


class PersonalData:
    """Finds and removes what the application stores of a person."""

    def find(self, session: Session, subject: Subject) -> Found:
        """Return what there is.

        The person's conversations are those whose customer they are, or in which they wrote of themselves. A message
        of somebody else that mentions them counts alone. A document is theirs by its `user_id` or its name; a document
        that mentions them is only reported.
        """
        rows = _rows(session, subject)
        leads = _in(session, [Lead.lead_id, Lead.uid, Lead.conversation_id], Lead.id, rows.leads)
        events = _in(session, [WebhookEvent.task_id, WebhookEvent.delivery_id], WebhookEvent.id, rows.events)
        ids = {id for row in (*leads, *events) for id in row if id}
        ids |= rows.conversations | rows.documents | rows.deliveries
        return Found(rows.counts, frozenset(ids), frozenset(_elsewhere(session, subject, rows)))

    def erase(self, session: Session, subject: Subject) -> None:
        """Remove what `find` returns."""
        rows = _rows(session, subject)
        for key, ids in (
            (Message.conversation_id, rows.conversations),
            (Conversation.id, rows.conversations),
            (Message.id, rows.messages),
            (Lead.id, rows.leads),
            (Passage.document_id, rows.documents),
            (Document.id, rows.documents),
            (WebhookEvent.id, rows.events),
            (WebhookDelivery.id, rows.deliveries),
            (Report.id, rows.reports),
        ):
            for part in _parts(ids):
                statement = delete(key.class_).where(key.in_(part))  # pyright: ignore[reportArgumentType] - no alias
                session.execute(statement.execution_options(synchronize_session=False))


def _rows(session: Session, subject: Subject) -> _Rows:
    def keys(columns: list[InstrumentedAttribute[Any]], key: InstrumentedAttribute[Any]) -> set[Any]:
        return {row[0] for row in rows_about(session, subject, columns, returning=[key])}

    conversations = keys([Conversation.id, Conversation.customer], Conversation.id)
    messages: set[int] = set()
    written = rows_about(
        session,
        subject,
        [Message.text, Message.conversation_id],
        returning=[Message.id, Message.conversation_id, Message.role],
    )
    for id, conversation, role in written:
        if role == BY_CUSTOMER or conversation in conversations:
            conversations.add(conversation)
        else:
            messages.add(id)
    return _Rows(
        conversations=conversations,
        messages=messages,
        leads=keys([Lead.lead_id, Lead.source_id, Lead.conversation_id, Lead.fields, Lead.crm_error], Lead.id),
        documents=keys([Document.id, Document.user_id, Document.title, Document.file_name], Document.id),
        deliveries=keys([WebhookDelivery.id, WebhookDelivery.body], WebhookDelivery.id),
        events=keys(
            [WebhookEvent.event_id, WebhookEvent.delivery_id, WebhookEvent.data, WebhookEvent.problems], WebhookEvent.id
        ),
        reports=keys([Report.data], Report.id),
    )


def _elsewhere(session: Session, subject: Subject, rows: _Rows) -> Iterator[str]:
    """What the person's data has left in other systems, and documents that only mention the person."""
    own = {uid for (uid,) in _in(session, [CrmRecord.lead_uid], CrmRecord.lead_uid, _uids(session, rows.leads))}
    for lead_id, uid, crm_id in _in(session, [Lead.lead_id, Lead.uid, Lead.crm_id], Lead.id, rows.leads):
        if crm_id and uid not in own:
            yield f"The CRM has the record {crm_id} of the lead {lead_id}."
    for id, key in _in(session, [Document.id, Document.object_key], Document.id, rows.documents):
        if key:
            yield f"The storage of documents has the file {key} of the document {id}."
    mentions = {row[0] for row in rows_about(session, subject, [Passage.text], returning=[Passage.document_id])}
    for id in sorted(mentions - rows.documents):
        yield f"The document {id} mentions the person; it was not removed."


def _uids(session: Session, leads: Collection[int]) -> set[str]:
    return {uid for (uid,) in _in(session, [Lead.uid], Lead.id, leads)}


def _in(
    session: Session,
    columns: list[InstrumentedAttribute[Any]],
    key: InstrumentedAttribute[Any],
    ids: Collection[Any],
) -> list[Any]:
    """The values of these columns, in the rows whose key is one of the ids."""
    return [row for part in _parts(ids) for row in session.execute(select(*columns).where(key.in_(part)))]


def _parts(ids: Collection[Any]) -> Iterator[list[Any]]:
    rest = sorted(ids)
    for first in range(0, len(rest), BATCH):
        yield rest[first : first + BATCH]
