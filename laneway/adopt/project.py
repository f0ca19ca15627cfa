"""A Celery project as it is: its app, the queues that it knows, its broker's addresses and the names of its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

from celery import Celery
from kombu.connection import Connection
from kombu.serialization import registry as serializers

from laneway.adopt.layout import Layout
from laneway.engine.engine import Engine
from laneway.engine.errors import LanewayError
from laneway.installation import TRANSPORT
from laneway.transport.connection_options import address_of, settings_of

REDIS_SCHEMES: Final = ("redis", "rediss", "sentinel", "unix", "socket", "redis+socket", "valkey", "valkeys")
OWN_OPTIONS: Final = (
    "lease",
    "weights",
    "poll_interval",
    "cancel_signal",
    "zero_goes_first",
    "connection",
    "key_ring",
    "signing",
)
"""Transport options of the engine that kombu's own transport does not know."""


class AdoptError(LanewayError, init=False):
    """An error of `laneway adopt`."""


class NoApp(AdoptError):
    """The Celery app cannot be imported."""

    template = "{name!r} names no Celery app: {reason}. Write it as `celery -A` takes it, for example shop.celery:app."
    name: str
    reason: str


class NotOnRedis(AdoptError):
    """The broker has no lists of kombu's Redis transport."""

    template = (
        "The broker is {scheme}://, and only messages on Redis or Valkey can be moved. Point the producers to the new "
        "broker, let the old workers empty the old one, then stop them."
    )
    scheme: str


class Unreachable(AdoptError):
    """A server does not answer."""

    template = "{what} cannot be reached: {reason}"
    what: str
    reason: str


class AnotherRun(AdoptError):
    """Two runs between the same two servers would move messages twice."""

    template = "Another `laneway adopt` moves messages to this server. Wait until it ends; 15 s, when it was killed."


class WorkersAnswer(AdoptError):
    """Old workers take messages while they are copied to another server."""

    template = (
        "Old workers answer ({names}). Messages are copied to another server, and a worker may run one that is being "
        "copied. Stop them first: SIGTERM lets them finish what they run."
    )
    names: str


@dataclass(frozen=True)
class Project:
    """A Celery project. `app`: its Celery app. `old_url`: where its messages are; None: at the app's broker."""

    app: Any
    old_url: str | None = None

    @cached_property
    def conf(self) -> Any:
        """The app's settings."""
        return self.app.conf

    @property
    def options(self) -> dict[str, Any]:
        """The app's `broker_transport_options`."""
        return dict(self.conf.broker_transport_options or {})

    @property
    def scheme(self) -> str:
        """The scheme of the old broker's address."""
        url = self.old_url or self.broker_url
        return url.partition("://")[0].lower() if "://" in url else url.lower()

    @property
    def broker_url(self) -> str:
        """The first address of the broker in the app's settings."""
        url = self.conf.broker_read_url or self.conf.broker_url or ""
        if isinstance(url, str):
            return url
        return ";".join(str(each) for each in cast("Iterable[object]", url))

    @property
    def is_on_redis(self) -> bool:
        """Whether the old broker is Redis or Valkey."""
        return self.scheme in REDIS_SCHEMES

    @property
    def is_installed(self) -> bool:
        """Whether the app is on the engine already."""
        return self.conf.broker_transport == TRANSPORT

    @cached_property
    def layout(self) -> Layout:
        """The names of kombu's keys."""
        return Layout.from_options(self.options)

    @cached_property
    def tasks(self) -> frozenset[str]:
        """The names of the registered tasks."""
        return frozenset(self.app.tasks)

    @cached_property
    def declared(self) -> frozenset[str]:
        """The queues that a worker of the app consumes by default."""
        return frozenset(str(name) for name in self.app.amqp.queues)

    @cached_property
    def routed(self) -> frozenset[str]:
        """The queues that `task_routes` names in a mapping."""
        found = set[str]()
        _collect_queues(self.conf.task_routes, found)
        return frozenset(found)

    @cached_property
    def accepted(self) -> frozenset[str]:
        """The content types that a worker of the app reads."""
        names = cast("Iterable[object]", self.conf.accept_content or ())
        known: Mapping[str, str] = serializers.name_to_type
        return frozenset(known.get(str(name), str(name)) for name in names)

    def stock_app(self) -> Celery:
        """An app that reaches the old workers by kombu's own transport."""
        options = {name: value for name, value in self.options.items() if name not in OWN_OPTIONS}
        stock: Any = Celery("adopt", broker=self.old_url or self.broker_url, set_as_current=False)
        stock.conf.update(
            broker_transport_options=options,
            broker_use_ssl=self.conf.broker_use_ssl,
            control_exchange=self.conf.control_exchange,
            broker_connection_timeout=5,
        )
        return stock

    def connect(self, url: str | None) -> Engine:
        """Make an engine for this address, or for the old broker, with the app's connection settings."""
        options = {name: value for name, value in self.options.items() if name != "zero_goes_first"}
        address = url or self.old_url or self.broker_url
        client = Connection(
            address.replace("valkey", "redis", 1) if address.startswith("valkey") else address,
            transport="laneway:Transport",
            transport_options=options,
            ssl=self.conf.broker_use_ssl,
        )
        settings = settings_of(client) | {"key_prefix": self.layout.prefix}
        return Engine.from_url(address_of(client), **settings)


def load_project(name: str, *, old_url: str | None = None) -> Project:
    """Import the app that `celery -A` would take, with its tasks. Raises NoApp."""
    from celery.app.utils import find_app

    try:
        app: Any = find_app(name)
        if not isinstance(cast("object", app), Celery):
            raise NoApp(name, "it is something else")
        app.loader.import_default_modules()
        app.finalize()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise NoApp(name, str(error) or type(error).__name__) from error
    return Project(app, old_url)


def _collect_queues(routes: object, found: set[str]) -> None:
    if isinstance(routes, Mapping):
        for route in cast("Mapping[object, object]", routes).values():
            queue = cast("Mapping[str, object]", route).get("queue") if isinstance(route, Mapping) else route
            if isinstance(queue, str):
                found.add(queue)
    elif isinstance(routes, list | tuple):
        for each in cast("Iterable[object]", routes):
            _collect_queues(each, found)
