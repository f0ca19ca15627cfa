"""The names of the keys in which kombu's Redis transport keeps the queues of a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

DEFAULT_SEPARATOR: Final = "\x06\x16"
DEFAULT_STEPS: Final = (0, 3, 6, 9)
VISIBILITY_TIMEOUT: Final = 3600.0
"""Seconds. kombu's default."""
BINDING: Final = "_kombu.binding."
MOST_STEP: Final = 255
"""Steps above are part of a queue's name: AMQP has no higher priority."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a project's transport options name its keys.

    A queue has a list for each step of priority. The list of step 0 has the name of the queue, the others have the
    separator and the step behind it. Step 0 is delivered first. `visibility_timeout`: seconds after which kombu
    delivers a message again that was not acknowledged.
    """

    prefix: str = ""
    separator: str = DEFAULT_SEPARATOR
    steps: tuple[int, ...] = DEFAULT_STEPS
    unacked: str = "unacked"
    unacked_index: str = "unacked_index"
    visibility_timeout: float = VISIBILITY_TIMEOUT

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Layout:
        """The layout of `broker_transport_options`. Options that cannot be read have their default."""
        steps = options.get("priority_steps")
        return cls(
            prefix=_text(options, "global_keyprefix", ""),
            separator=_text(options, "sep", DEFAULT_SEPARATOR) or DEFAULT_SEPARATOR,
            steps=_steps(steps) or DEFAULT_STEPS,
            unacked=_text(options, "unacked_key", "unacked"),
            unacked_index=_text(options, "unacked_index_key", "unacked_index"),
            visibility_timeout=_seconds(options.get("visibility_timeout")),
        )

    @property
    def unacked_key(self) -> str:
        """The hash of the delivered messages."""
        return f"{self.prefix}{self.unacked}"

    @property
    def unacked_index_key(self) -> str:
        """The sorted set of their delivery tags by the time of the delivery (s)."""
        return f"{self.prefix}{self.unacked_index}"

    def key(self, queue: str, step: int) -> str:
        """The list of a queue's step."""
        return f"{self.prefix}{queue}{f'{self.separator}{step}' if step else ''}"

    def keys(self, queue: str) -> list[tuple[int, str]]:
        """Each step with the list of the queue, in the order of delivery."""
        return [(step, self.key(queue, step)) for step in self.steps]

    def parse(self, key: str) -> tuple[str, int, str] | None:
        """Queue, step and separator of a list's key; None when the key does not have the prefix.

        Also reads the default separator of a project that has another one: its lists of earlier settings have it.
        """
        if not key.startswith(self.prefix):
            return None
        name = key.removeprefix(self.prefix)
        for separator in (self.separator, DEFAULT_SEPARATOR):
            queue, found, step = name.rpartition(separator)
            if found and queue and step.isascii() and step.isdigit() and int(step[:4]) <= MOST_STEP:
                return queue, int(step), separator
        return name, 0, self.separator

    def bindings_key(self, exchange: str) -> str:
        """The set of the bindings of an exchange."""
        return f"{self.prefix}{BINDING}{exchange}"


def _text(options: Mapping[str, Any], name: str, default: str) -> str:
    value = options.get(name, default)
    return value if isinstance(value, str) else default


def _steps(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    steps = cast("list[object]", list(cast("Any", value)))
    return tuple(sorted({step for step in steps if isinstance(step, int) and 0 <= step <= MOST_STEP}))


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else VISIBILITY_TIMEOUT
