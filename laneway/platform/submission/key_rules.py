"""Rules of a submission about the other tasks of its key: debounce, throttle, `if_busy`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from laneway.platform.registry import TaskSpec
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.ordering_keys import ordering_key
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.schemas.choices import IfBusy

DEFAULT_MAX: Final = 10
"""Without `debounce_max`, a debounced task starts at most so many times `debounce` after its first submission."""


class RuleKind(StrEnum):
    """What a rule is about."""

    DEBOUNCE = "debounce"
    THROTTLE = "throttle"
    IF_BUSY = "if_busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """The rule of one submission. All times are in seconds."""

    kind: RuleKind
    key: str
    seconds: float = 0
    """Of a debounce: the wait. Of a throttle: the period."""
    most: float = 0
    """Of a debounce: the longest time from the first submission to the start."""
    if_busy: IfBusy = IfBusy.WAIT

    def slot(self, name: str) -> str:
        """The id of what all submissions of a task's name with this rule and key have in common."""
        return hashlib.sha256(f"{self.kind}\0{name}\0{self.key}".encode("utf-8", "replace")).hexdigest()


def rule_of(spec: TaskSpec, options: SubmitOptions, key: str | None) -> KeyRule | None:
    """The rule of a submission, if it has one. `key`: its ordering key. Raises InvalidOptions."""
    given = [name for name in RuleKind if getattr(options, name) is not None]
    problems = [*_problems(options, given, key)]
    if problems:
        raise InvalidOptions(spec.name, problems)
    if options.debounce is not None:
        seconds, most = options.debounce, options.debounce_max or DEFAULT_MAX * options.debounce
        return KeyRule(kind=RuleKind.DEBOUNCE, key=_key(options.debounce_key, key), seconds=seconds, most=most)
    if options.throttle is not None:
        return KeyRule(kind=RuleKind.THROTTLE, key=_key(options.throttle_key, key), seconds=options.throttle)
    if_busy = options.if_busy or spec.if_busy
    if if_busy is IfBusy.WAIT or key is None:
        return None
    return KeyRule(kind=RuleKind.IF_BUSY, key=key, if_busy=if_busy)


def looks_at_others(spec: TaskSpec, options: SubmitOptions) -> bool:
    """Whether the states of other tasks decide what becomes of a submission."""
    return options.throttle is not None or (options.if_busy or spec.if_busy) is not IfBusy.WAIT


def _problems(options: SubmitOptions, given: list[RuleKind], key: str | None) -> Iterator[str]:
    if len(given) > 1:
        yield f"give only one of {', '.join(given)}"
    for name, seconds in (("debounce", options.debounce), ("throttle", options.throttle)):
        own: object = getattr(options, f"{name}_key")
        if seconds is None and own is not None:
            yield f"{name}_key needs {name}: the seconds"
        if own is not None and (not isinstance(own, str) or not own or "\0" in own):
            yield f"{name}_key: give a text that is not empty and has no NUL character"
        if seconds is not None and seconds <= 0:
            yield f"{name} must be more than 0 seconds"
        if seconds is not None and own is None and key is None:
            yield f"{name} needs a key: give {name}_key, or key"
    if options.if_busy not in (None, IfBusy.WAIT) and key is None:
        yield "if_busy needs the ordering key: give key"
    yield from _debounce_problems(options)


def _debounce_problems(options: SubmitOptions) -> Iterator[str]:
    wait, most = options.debounce, options.debounce_max
    if wait is None:
        if most is not None:
            yield "debounce_max needs debounce: the seconds"
        return
    if most is not None and most < wait:
        yield f"debounce_max ({most:g} s) must be as long as debounce ({wait:g} s), or longer"
    if options.delay > 0:
        yield "give debounce, or delay or at, not both"
    if options.expires is not None and options.expires <= wait:
        yield f"expires ({options.expires:g} s) must be longer than debounce ({wait:g} s): it would never start"


def _key(own: str | None, ordering: str | None) -> str:
    return ordering_key(own) if own is not None else ordering or ""
