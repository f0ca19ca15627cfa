"""Seals the arguments of Celery calls: `.delay()`, `.apply_async()`, `send_task`, canvas, Beat and Celery's retries.

Every message of Celery's is built by `app.amqp.as_task_v2`, so this is the one place. A task that must be encrypted is
sent with its whole payload sealed, and without positional arguments. The later tasks that a message carries (its chain,
its chord, its links) are sealed, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from celery import Celery
from celery.app import amqp

from laneway.platform.history.adoption import payload_of_call
from laneway.platform.payload_store import is_stored
from laneway.platform.registry import registry
from laneway.platform.sealing import SHOWN, Sealer, is_sealed, opened_call
from laneway.worker.producer import AMQP as EngineAMQP

PRODUCERS: Final = {
    "laneway.worker.producer:AMQP": "laneway.platform.submission.sealing_producer:EngineProducer",
    "celery.app.amqp:AMQP": "laneway.platform.submission.sealing_producer:CeleryProducer",
    None: "laneway.platform.submission.sealing_producer:CeleryProducer",
}
"""The class of `app.amqp` that seals, by the one that it replaces."""
_OF_CELERY: Final = "celery."
"""Names of Celery's own tasks begin with this; the arguments of some are other calls."""
_sealers: WeakKeyDictionary[Celery, Sealer] = WeakKeyDictionary()


def seal_calls(app: Celery, sealer: Sealer) -> None:
    """Have the calls of this app sealed. An app with a class of its own for `app.amqp` keeps it; see `seals_calls`."""
    if app.amqp_cls in PRODUCERS:
        app.amqp_cls = PRODUCERS[app.amqp_cls]
        _sealers[app] = sealer


def seals_calls(app: Celery) -> bool:
    """Whether the calls of this app are sealed."""
    return isinstance(app.amqp, SealingProducer)


class SealingProducer(amqp.AMQP):
    """A class of `app.amqp` that seals the arguments of tasks."""

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Build Celery's message, with sealed arguments if the task is encrypted."""
        sealer = _sealers.get(self.app)
        if sealer is not None:
            rest = tuple(_sealed_calls_in(sealer, value) for value in rest)
            options = {key: _sealed_calls_in(sealer, value) for key, value in options.items()}
            spec = registry.get(name)
            if spec is not None and sealer.seals(spec):
                if args or not (is_sealed(kwargs) or is_stored(kwargs)):
                    kwargs = sealer.payload(spec, payload_of_call(name, *opened_call(args or (), kwargs or {})))
                    args = ()
                options |= {"argsrepr": "()", "kwargsrepr": SHOWN}
        return super().as_task_v2(task_id, name, args, kwargs, *rest, **options)


class EngineProducer(SealingProducer, EngineAMQP):
    """The engine's producer, which seals."""


class CeleryProducer(SealingProducer):
    """Celery's producer, which seals; for brokers without the delivery engine."""


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
