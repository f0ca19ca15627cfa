"""Seals the arguments of Celery calls (`.delay()`, `.apply_async()`, `send_task`, canvas, Beat, Celery's retries), and
puts large ones into the storage.

Every message of Celery's is built by `app.amqp.as_task_v2`, so this is the one place. A task that must be encrypted is
sent with its whole payload sealed, and without positional arguments. The later tasks that a message carries (its chain,
its chord, its links) are sealed, too. They go into the storage when they are sent themselves.

A call never fails because of the storage: while it is away, and for arguments that are no plain JSON (a datetime, for
example), they stay in the message, as in any Celery program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from celery import Celery
from celery.app import amqp

from laneway.platform.history.adoption import payload_of_call
from laneway.platform.logging import logger
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import PayloadStore, is_stored
from laneway.platform.registry import registry
from laneway.platform.sealing import SHOWN, Sealer, is_sealed, opened_call
from laneway.worker.producer import AMQP as EngineAMQP

log = logger(__name__)

PRODUCERS: Final = {
    "laneway.worker.producer:AMQP": "laneway.platform.submission.sealing_producer:EngineProducer",
    "celery.app.amqp:AMQP": "laneway.platform.submission.sealing_producer:CeleryProducer",
    None: "laneway.platform.submission.sealing_producer:CeleryProducer",
}
"""The class of `app.amqp` that seals, by the one that it replaces."""
_OF_CELERY: Final = "celery."
"""Names of Celery's own tasks begin with this; the arguments of some are other calls."""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """What happens to the calls of an app. `store` None: nothing goes into the storage."""

    sealer: Sealer
    store: PayloadStore | None


_apps: WeakKeyDictionary[Celery, _Outgoing] = WeakKeyDictionary()


def seal_calls(app: Celery, sealer: Sealer, *, store: PayloadStore | None = None) -> None:
    """Have the calls of this app sealed, and put into this storage if they are large.

    An app with a class of its own for `app.amqp` keeps it; see `seals_calls`.
    """
    if app.amqp_cls in PRODUCERS:
        app.amqp_cls = PRODUCERS[app.amqp_cls]
        _apps[app] = _Outgoing(sealer, store)


def seals_calls(app: Celery) -> bool:
    """Whether the calls of this app are sealed."""
    return isinstance(app.amqp, SealingProducer)


class SealingProducer(amqp.AMQP):
    """A class of `app.amqp` that seals the arguments of tasks, and stores large ones."""

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Build Celery's message, with sealed arguments if the task is encrypted, or a reference to large ones."""
        outgoing, spec = _apps.get(self.app), registry.get(name)
        if outgoing is not None:
            sealer = outgoing.sealer
            rest = tuple(_sealed_calls_in(sealer, value) for value in rest)
            options = {key: _sealed_calls_in(sealer, value) for key, value in options.items()}
            if spec is not None and sealer.seals(spec):
                if args or not (is_sealed(kwargs) or is_stored(kwargs)):
                    kwargs = sealer.payload(spec, payload_of_call(name, *opened_call(args or (), kwargs or {})))
                    args = ()
                options |= {"argsrepr": "()", "kwargsrepr": SHOWN}
            if spec is not None and outgoing.store is not None and not is_stored(kwargs):
                payload = payload_of_call(name, args or (), kwargs or {})
                reference = _stored(outgoing.store, payload, id=task_id)
                args, kwargs = (args, kwargs) if reference is None else ((), reference)
        return super().as_task_v2(task_id, name, args, kwargs, *rest, **options)


class EngineProducer(SealingProducer, EngineAMQP):
    """The engine's producer, which seals."""


class CeleryProducer(SealingProducer):
    """Celery's producer, which seals; for brokers without the delivery engine."""


def _stored(store: PayloadStore, payload: dict[str, Any], *, id: str) -> dict[str, Any] | None:
    """The reference to a payload that was put into the storage; None: it stays in the message."""
    try:
        found = store.stored(payload, id=id)
    except (TypeError, ValueError, RecursionError):  # Celery's own JSON knows more types
        return None
    except StorageUnavailable as error:
        log.warning("large arguments stay in the message", task_id=id, error=str(error))
        return None
    return found if is_stored(found) else None


def _sealed_calls_in(sealer: Sealer, value: Any) -> Any:
    """Seal the arguments of the signatures in an option of a message. Other values stay as they are."""
    if isinstance(value, list | tuple):
        return [_sealed_calls_in(sealer, each) for each in cast("Sequence[Any]", value)]
    call = dict(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else {}
    name: Any = call.get("task")
    if not isinstance(name, str):
        return cast("Any", value)
    options: dict[str, Any] = call.get("options") or {}
    call["options"] = {key: _sealed_calls_in(sealer, each) for key, each in options.items()}
    if name.startswith(_OF_CELERY):
        inner: dict[str, Any] = call.get("kwargs") or {}
        call["kwargs"] = {key: _sealed_calls_in(sealer, each) for key, each in inner.items()}
        return call
    spec = registry.get(name)
    if spec is not None and sealer.seals(spec):
        call["args"] = [sealer.result(spec, each) for each in call.get("args") or ()]
        call["kwargs"] = sealer.payload(spec, call["kwargs"]) if call.get("kwargs") else {}
    return call
