"""Decides what follows from an event, by the mapping in force. A pure function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from app.schemas.webhook import ParsedEvent
from app.schemas.webhook_event import EventState
from app.services.webhooks.mapping.current import MappingInForce
from app.services.webhooks.mapping.errors import Misfit
from app.services.webhooks.mapping.paths import filled
from app.services.webhooks.mapping.rules import Rule
from laneway.platform.errors import InvalidPayload
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import validated
from laneway.schemas.payload import Payload

TOLD_PROBLEMS = 3
"""The most problems of reading that the reason of a quarantine names."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an event: a task with its payload, or the reason why there is none."""

    state: EventState
    rule: str | None = None
    reason: str | None = None
    task: str | None = None
    payload: Payload | dict[str, Any] = field(default_factory=dict[str, Any])


def decide(current: MappingInForce, source: str, event: ParsedEvent) -> Decision:
    """What follows from this event. Nothing is raised: an event that does not fit goes to quarantine."""
    if event.unreadable is not None:
        return Decision(EventState.QUARANTINED, reason=f"it cannot be read: {event.unreadable}")
    if event.is_test:
        return Decision(EventState.TEST)
    if current.mapping is None:
        return Decision(EventState.QUARANTINED, reason=f"there is no valid mapping. {current.problem}")
    scope = _scope(source, event)
    for rule in current.mapping.rules:
        try:
            if rule.matches(scope):
                return Decision(EventState.HANDLED, rule.name, None, rule.task, _payload(rule, scope))
        except (Misfit, InvalidPayload) as error:
            return Decision(EventState.QUARANTINED, rule.name, _reason(rule, error, event))
    return Decision(EventState.UNHANDLED)


def _payload(rule: Rule, scope: dict[str, Any]) -> Payload:
    content = filled(rule.payload, scope)
    if not isinstance(content, dict):
        raise Misfit("the payload of the rule is not an object")
    return validated(registry.find(rule.task), cast("dict[str, Any]", content))


def _scope(source: str, event: ParsedEvent) -> dict[str, Any]:
    """What the paths of a rule lead into."""
    return {
        "event": {
            "id": event.event_id,
            "source": source,
            "name": event.name,
            "kind": event.kind,
            "occurred_at": event.occurred_at.isoformat() if event.occurred_at else None,
            "is_test": event.is_test,
        },
        "body": event.body,
        "interaction": event.interaction.model_dump(mode="json", exclude_none=True) if event.interaction else None,
    }


def _reason(rule: Rule, error: Misfit | InvalidPayload, event: ParsedEvent) -> str:
    """Why the event does not fit the rule, and which of its fields could not be read."""
    told = event.problems[:TOLD_PROBLEMS]
    read = f" Fields that could not be read: {'; '.join(told)}." if told else ""
    return f"it does not fit the rule {rule.name!r}: {error}.{read}"
