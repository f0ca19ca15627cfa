"""The person whose data is erased, and whether a value is about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Final, cast

from laneway.platform.errors import PermanentError

SHORTEST: Final = 3
LONGEST: Final = 254
DISTINCT: Final = 6
"""A shorter id, or one of digits only, also occurs where it means something else."""
_PLAIN: Final = re.compile(r"[a-z0-9 @._:+=-]+")
"""Characters that JSON and both databases store as they are."""
_PART: Final = re.compile(r"[\w@.+=-]+")
_ID_FIELD: Final = re.compile(r"(?:^|_)(?:id|ids|key)$", re.IGNORECASE)


class InvalidSubject(PermanentError):
    """The subject of an erasure would be in everybody's data, or in nobody's."""

    title = "Invalid subject"

    template = "A subject has {shortest} to {longest} characters: an e-mail address, a phone number or an id."
    shortest: int = SHORTEST
    longest: int = LONGEST


class Subject:
    """A person, as texts name them: by what the operator gave, and by ids that belong to this person only.

    What the operator gave is found anywhere in a text, in upper and lower case, but not as a part of a longer name or
    address. An id is found as a whole value, and as a part of an id: `conv-17` in `message:conv-17:1`. A short id, or
    one of digits only, is found as a whole value of a field that holds ids.
    """

    def __init__(self, name: str, ids: Iterable[str] = ()) -> None:
        """Raises InvalidSubject."""
        self.name = name.strip()
        if not SHORTEST <= len(self.name) <= LONGEST or "\x00" in self.name:
            raise InvalidSubject
        self.ids = frozenset(ids)

    def known_as(self, ids: Iterable[str]) -> Subject:
        """The same person, with further ids."""
        return Subject(self.name, self.ids.union(ids))

    def owns(self, *values: Any) -> bool:
        """Whether one of these values (texts, or JSON of any depth) is about the person."""
        return any(self._owns(value, "id") for value in values)

    @property
    def fragments(self) -> list[str] | None:
        """Lower-case texts of which each value about the person has one, for a first selection by the database.

        None: there are too many, or a name has no part that every encoding keeps as it is.
        """
        names = [self.name.lower(), *(id.lower() for id in self.ids)]
        longest = [max(_PLAIN.findall(name), key=len, default="") for name in names]
        return longest if len(longest) <= MOST_FRAGMENTS and all(len(part) >= SHORTEST for part in longest) else None

    def _owns(self, value: Any, field: str) -> bool:
        if isinstance(value, str):
            return self._names(value, field)
        if isinstance(value, bytes):
            return self._names(value.decode(errors="replace"), "")
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return any(self._owns(str(name), "") or self._owns(each, str(name)) for name, each in items)
        if isinstance(value, list | tuple):
            return any(self._owns(each, field) for each in cast("list[Any]", value))
        return False

    def _names(self, text: str, field: str) -> bool:
        if self._mention.search(text):
            return True
        if text in self.ids and (is_distinct(text) or _ID_FIELD.search(field)):
            return True
        if text[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                return self._owns(json.loads(text), "")
        if any(part.rstrip(".") in self._distinct for part in _PART.findall(text)):
            return True
        return self._composed is not None and self._composed.search(text) is not None

    @cached_property
    def _mention(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w.+-]){re.escape(self.name)}(?![\w+-]|\.\w)", re.IGNORECASE)

    @cached_property
    def _composed(self) -> re.Pattern[str] | None:
        """Finds the ids that are no single part of a text."""
        ids = [re.escape(id) for id in self._distinct if not _PART.fullmatch(id)]
        return re.compile(rf"(?<![\w@.+=-])(?:{'|'.join(ids)})(?![\w@+=-]|\.\w)") if ids else None

    @cached_property
    def _distinct(self) -> frozenset[str]:
        return frozenset(filter(is_distinct, self.ids))


MOST_FRAGMENTS: Final = 25


def is_distinct(id: str) -> bool:
    """Whether an id can be told from other text."""
    return len(id) >= DISTINCT and not id.isdecimal()
