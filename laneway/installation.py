"""`laneway.install(celery_app)`: makes a Celery app use the engine, in one call.

It sets, on this app only: the transport and its options, the result backend, the prefork pool, the consumer, the
producer (`app.amqp`), and the classes of a worker's requests. It keeps what a project has chosen itself: another pool
than prefork, its own consumer or producer class, a result backend that is not on Redis, and transport options that
`install` was not given.

Call it before or after `app.conf` is configured, but before the app is used. Celery makes `app.amqp` and `app.backend`
when they are first needed, and keeps them. If `install` finds one that Celery has already made, it raises
InstalledTooLate. `install` applies its settings when Celery reads its configuration. So `config_from_object` may come
before or after, and `CELERY_RESULT_BACKEND` in the environment is respected. A later change of a setting wins:
`app.conf.broker_transport_options = …` replaces the options of `install`.

A second call with the same options changes nothing. With other options it raises AlreadyInstalled, because the first
ones may already be in use.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from laneway.engine.errors import LanewayError
from laneway.engine.round_robin import MAX_CLASS, MAX_WEIGHT
from laneway.transport.signatures import RING_OPTION, SIGNING_OPTION, Signing
from laneway.worker.task_classes import use_engine_classes

if TYPE_CHECKING:
    from celery import Celery

TRANSPORT: Final = "laneway:Transport"
RESULT_BACKEND: Final = "laneway:ResultBackend"
POOL: Final = "laneway.worker.prefork:TaskPool"
CONSUMER: Final = "laneway.worker.consumer:Consumer"
PRODUCER: Final = "laneway.worker.producer:AMQP"
WORKER_STEP: Final = "laneway.worker.bootstep:WorkerStep"

MIN_LEASE, MAX_LEASE = 1.0, 86_400.0
MIN_POLL_INTERVAL, MAX_POLL_INTERVAL = 0.05, 60.0
_CELERY_PRODUCERS: Final = ("celery.app.amqp:AMQP", None)
_CELERY_CONSUMERS: Final = ("celery.worker.consumer:Consumer", None)
_CELERY_PREFORK: Final = ("prefork", "processes", "celery.concurrency.prefork:TaskPool", None)
_RESULT_SCHEMES: Final = ("redis", "rediss", "sentinel", "redis+socket")
_SECRETS: Final = ("password", "credential")


class InstallError(LanewayError, init=False):
    """An error of `laneway.install`."""


class InvalidOption(InstallError):
    """An option has an invalid value."""

    template = "laneway.install: {option} must be {requirement}, not {value!r}."
    option: str
    requirement: str
    value: object


class InstalledTooLate(InstallError):
    """`install` was called after the app had made an object with its old settings."""

    template = (
        "laneway.install was called too late: the app has already made its {made}. Call it right after the app is "
        "made, before a task is sent or a result is read."
    )
    made: str


class AlreadyInstalled(InstallError):
    """`install` was called before with other options."""

    template = "laneway.install was called before with other options: {before}, now {now}. Call it once."
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one `install`. None: the transport's default, or what the project has set."""

    lease: float | None
    weights: Mapping[str, int] | None
    poll_interval: float | None
    cancel_signal: str | None
    global_keyprefix: str | None
    zero_goes_first: bool | None
    connection: Mapping[str, Any] | None = field(repr=False)  # it may hold a password
    results: bool
    key_ring: str | None = None
    signing: str | None = None
    labels: tuple[str, ...] = ()
    classes: Mapping[str, int] | None = None

    @property
    def transport_options(self) -> dict[str, Any]:
        """The given options, by their names in `broker_transport_options`."""
        options = {
            "lease": self.lease,
            "weights": None if self.weights is None else dict(self.weights),
            "poll_interval": self.poll_interval,
            "labels": list(self.labels) or None,
            "classes": None if self.classes is None else dict(self.classes),
            "cancel_signal": self.cancel_signal,
            "global_keyprefix": self.global_keyprefix,
            "zero_goes_first": self.zero_goes_first,
            "connection": None if self.connection is None else dict(self.connection),
            RING_OPTION: self.key_ring,
            SIGNING_OPTION: self.signing,
        }
        return {name: value for name, value in options.items() if value is not None}

    def __str__(self) -> str:
        options = self.transport_options | {"results": self.results}
        return ", ".join(f"{name}={shown(name, value)}" for name, value in options.items())


@dataclass(frozen=True, slots=True)
class Installation:
    """The engine's settings on one app. `str()` lists each setting with its value, URLs without passwords."""

    app: Celery = field(repr=False)
    options: Options

    @property
    def settings(self) -> dict[str, Any]:
        """The current settings. This makes Celery read its configuration, if it has not done so yet."""
        conf, task = self.app.conf, self.app.Task
        return {
            "broker_url": conf.broker_url,
            "broker_transport": conf.broker_transport,
            "broker_transport_options": conf.broker_transport_options,
            "result_backend": self.app.backend_cls or conf.result_backend,
            "worker_pool": conf.worker_pool,
            "worker_consumer": conf.worker_consumer,
            "amqp": self.app.amqp_cls,
            "task.Request": task.Request,
            "task.Strategy": task.Strategy,
            "consumer steps": sorted(map(str, self.app.steps["consumer"])),
        }

    def __str__(self) -> str:
        return "\n".join(f"{name} = {shown(name, value)}" for name, value in self.settings.items())


_installed: WeakKeyDictionary[Celery, Options] = WeakKeyDictionary()


def install(
    app: Celery,
    *,
    lease: float | None = None,
    weights: Mapping[str, int] | None = None,
    poll_interval: float | None = None,
    cancel_signal: str | None = None,
    global_keyprefix: str | None = None,
    zero_goes_first: bool | None = None,
    connection: Mapping[str, Any] | None = None,
    results: bool = True,
    key_ring: str | Path | None = None,
    signing: str | None = None,
    labels: Sequence[str] = (),
    classes: Mapping[str, int] | None = None,
) -> Installation:
    """Make this app use the engine. The returned Installation shows the settings that were made.

    `lease`: seconds (1 to 86,400; default 30) after which the message of a worker that died is delivered again.
    `weights`: queue → 1 to 100, its share of a worker that consumes several queues (1 for queues that are not named).
    `classes`: queue → 1 to 255; a queue waits while one of a lower class has work. None: queues share by `weights`.
    `labels`: what this worker has, such as "gpu", for messages that need it (`message_options`).
    `poll_interval`: the most seconds (0.05 to 60; default 1) between two fetches of a worker that gets no wakeup.
    `cancel_signal`: the signal, such as "TERM", that ends a running task that was cancelled; None: it runs on.
    `global_keyprefix`: text before every key and channel, so that applications can share a database.
    `zero_goes_first`: priority 0 goes first, as in kombu's Redis transport; else 9. All apps of a broker need the same.
    `connection`: redis-py's connection settings for the broker, such as `socket_timeout`.
    `results`: use the engine's connections and group commit for the project's result backend, if that is on Redis.
    `key_ring`: the file with the keys that sign messages (`laneway keys create`). `signing`: "require" (with a key ring
    the default), so that messages without a valid signature become dead letters; "sign" accepts all; or "off".

    Raises InvalidOption, InstalledTooLate, AlreadyInstalled; Celery raises InvalidUrl for a broker of another kind.
    """
    simple = (poll_interval, cancel_signal, global_keyprefix, zero_goes_first)
    last = (None if key_ring is None else str(key_ring), signing, tuple(labels), _copy(classes))
    options = Options(lease, _copy(weights), *simple, _copy(connection), results, *last)
    _check(options)
    return _installed_once(app, options)


def _installed_once(app: Celery, options: Options) -> Installation:
    before = _installed.get(app)
    if before is not None and before != options:
        raise AlreadyInstalled(str(before), str(options))
    if before is None:
        _install(app, options)
    return Installation(app, options)


def _install(app: Celery, options: Options) -> None:
    _check_in_time(app, results=options.results)
    if app.configured:
        _apply(app, options)
    _set_classes(app)
    app.on_after_configure.connect(partial(_apply_to_sender, options), weak=False, dispatch_uid=__name__)
    _installed[app] = options


def _copy(value: Any) -> Any:
    return dict(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else value


def _check(options: Options) -> None:
    _check_seconds("lease", options.lease, MIN_LEASE, MAX_LEASE)
    _check_seconds("poll_interval", options.poll_interval, MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
    _check_order(options)
    name = options.cancel_signal
    if name is not None and not (_is_name(name) and f"SIG{name.removeprefix('SIG')}" in signal.Signals.__members__):
        raise InvalidOption("cancel_signal", 'the name of a signal, such as "TERM"', name)
    if not isinstance(cast("object", options.zero_goes_first), bool | None):
        raise InvalidOption("zero_goes_first", "True or False", options.zero_goes_first)
    prefix = cast("object", options.global_keyprefix)
    if not isinstance(prefix, str | None) or set("{}") & set(prefix or ""):
        raise InvalidOption("global_keyprefix", "text without braces", prefix)
    if options.connection is not None and not (
        _is_mapping(options.connection) and all(_is_name(key) for key in options.connection)
    ):
        value = shown("connection", options.connection)
        raise InvalidOption("connection", "a mapping of redis-py's connection settings", value)
    if options.signing is not None and options.signing not in list(Signing):
        raise InvalidOption("signing", '"require", "sign" or "off"', options.signing)
    if options.signing not in (None, Signing.OFF) and options.key_ring is None:
        raise InvalidOption("signing", "without a key_ring be left out", options.signing)
    if not isinstance(cast("object", options.results), bool):
        raise InvalidOption("results", "True or False", options.results)


def _check_seconds(option: str, seconds: object, low: float, high: float) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not low <= seconds <= high:
        raise InvalidOption(option, f"a number of seconds from {low:g} to {high:g}", seconds)


def _check_order(options: Options) -> None:
    """Check what orders the queues of a worker, and its labels."""
    if options.weights is not None:
        _check_numbers("weights", "weight", options.weights, MAX_WEIGHT)
    if options.classes is not None:
        _check_numbers("classes", "class", options.classes, MAX_CLASS)
    if any(not _is_name(label) or "," in label for label in options.labels):
        raise InvalidOption("labels", "a list of names without commas", list(options.labels))


def _check_numbers(option: str, one: str, numbers: Mapping[str, int], most: int) -> None:
    if not _is_mapping(numbers):
        raise InvalidOption(option, f"a mapping of queues to {option}", numbers)
    for queue, number in cast("Mapping[object, object]", numbers).items():
        if not _is_name(queue):
            raise InvalidOption(f"each queue in {option}", "a name", queue)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise InvalidOption(f"the {one} of {queue!r}", f"a whole number from 1 to {most}", number)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _check_in_time(app: Celery, *, results: bool) -> None:
    """Raise InstalledTooLate if the app has made an object with its old settings; Celery caches it by these names."""
    cached = vars(app)
    if "amqp" in cached and app.amqp_cls in _CELERY_PRODUCERS:
        raise InstalledTooLate("producer (app.amqp)")
    backend: object = cached.get("_backend_cache") or getattr(cached.get("_local"), "backend", None)
    url = str(getattr(backend, "url", None) or "")
    if results and backend is not None and not _is_on_engine(backend) and _scheme(url) in _RESULT_SCHEMES:
        raise InstalledTooLate("result backend (app.backend)")


def _is_on_engine(backend: object) -> bool:
    return any(base.__module__ == "laneway.results.backend" for base in type(backend).__mro__)


def _set_classes(app: Celery) -> None:
    """Set what is not in the configuration: the class of `app.amqp`, the classes of tasks, the consumer's step."""
    if app.amqp_cls in _CELERY_PRODUCERS:
        app.amqp_cls = PRODUCER
    use_engine_classes(app.Task)
    app.steps["consumer"].add(WORKER_STEP)


def _apply_to_sender(options: Options, sender: Celery, **_: Any) -> None:
    _apply(sender, options)


def _apply(app: Celery, options: Options) -> None:
    """Change the configuration that Celery has read. Must not raise: Celery only logs errors of signal handlers."""
    conf = app.conf
    changes: dict[str, Any] = {
        "broker_transport": TRANSPORT,
        "broker_transport_options": {**(conf.broker_transport_options or {}), **options.transport_options},
    }
    if conf.worker_pool in _CELERY_PREFORK:
        changes["worker_pool"] = POOL
    if conf.worker_consumer in _CELERY_CONSUMERS:
        changes["worker_consumer"] = CONSUMER
    backend: object = app.backend_cls or conf.result_backend
    if options.results and isinstance(backend, str) and _scheme(backend) in _RESULT_SCHEMES:
        url = f"{RESULT_BACKEND}+{backend.removeprefix('redis+')}"
        changes["result_backend"] = url
        app.backend_cls = url  # Celery prefers CELERY_RESULT_BACKEND to the setting
    conf.update(changes)


def _scheme(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def shown(name: str, value: object) -> str:
    """A value for people, without passwords."""
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return "{" + ", ".join(f"{key}: {shown(str(key), item)}" for key, item in items) + "}"
    if any(word in name for word in _SECRETS) and value is not None:
        return "**"
    text = re.sub(r"://([^/@:]*):[^/@]*@", r"://\1:**@", str(value))
    return re.sub(r"(?<=password=)[^&]*", "**", text)
