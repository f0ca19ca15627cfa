"""Checks the chain of the audit log, and names the first entry that was changed, removed or inserted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

from laneway.platform.audit_log.chain import START, digest_of, hash_of
from laneway.platform.db.models import AuditLogEntry

ERASE_CONTENTS: Final = "audit_log.erase"
"""The action whose entry names the entries whose contents were erased."""


class Damage(StrEnum):
    """What somebody did to an entry."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    ERASED = "erased"
    """Its contents are gone, and no later entry says who erased them."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a check. `damage` and `seq` name the first entry that is not as it was written."""

    entries: int
    """Entries that hold, from the first one on."""
    hash: str
    """The hash of the last of them. Kept elsewhere, it shows later that these entries are still the same."""
    damage: Damage | None = None
    seq: int | None = None

    @property
    def holds(self) -> bool:
        """Whether every entry is as it was written."""
        return self.damage is None


class Chain:
    """The check of one log, entry by entry, oldest first."""

    def __init__(self, expected: tuple[int, str] | None = None) -> None:
        """`expected`: number and hash of an entry that must be there."""
        self.length, self.hash, self._expected = 0, START, expected
        self._is_expected = expected is None
        self._without_contents: list[int] = []
        self._named = set[int]()

    def check(self, entries: Iterable[AuditLogEntry]) -> Verification | None:
        """Add entries; returns the first damage, or None."""
        rest = iter(entries)
        for entry in rest:
            found = self._damage_at(entry, rest)
            if found is not None:
                return Verification(self.length, self.hash, *found)
            self.length, self.hash = entry.seq, entry.hash
            if (entry.seq, entry.hash) == self._expected:
                self._is_expected = True
            if entry.salt is None:
                self._without_contents.append(entry.seq)
            elif entry.action == ERASE_CONTENTS:
                self._named.update(_numbers(entry.after))
        return None

    def end(self, head: tuple[int, str] | None) -> Verification:
        """Compare the end of the log with the end that was noted, after all entries were added."""
        noted_length, noted_hash = head or (0, START)
        if noted_length > self.length:
            return Verification(self.length, self.hash, Damage.REMOVED, self.length + 1)
        if noted_length < self.length:
            return Verification(noted_length, noted_hash, Damage.INSERTED, noted_length + 1)
        if noted_hash != self.hash:
            return Verification(self.length - 1, self.hash, Damage.CHANGED, self.length)
        if self._expected is not None and not self._is_expected:
            seq = self._expected[0]
            return Verification(self.length, self.hash, Damage.REMOVED if seq > self.length else Damage.CHANGED, seq)
        for seq in self._without_contents:
            if seq not in self._named:
                return Verification(self.length, self.hash, Damage.ERASED, seq)
        return Verification(self.length, self.hash)

    def _damage_at(self, entry: AuditLogEntry, rest: Iterator[AuditLogEntry]) -> tuple[Damage, int] | None:
        expected = self.length + 1
        if entry.seq < expected:  # entries are numbered from 1
            return Damage.INSERTED, entry.seq
        if entry.seq > expected:
            return Damage.REMOVED, expected
        if entry.hash != hash_of(entry):
            if entry.hash == hash_of(entry, seq=entry.seq - 1):  # renumbered, to make room for another one
                return Damage.INSERTED, expected - 1
            if entry.hash == hash_of(entry, seq=entry.seq + 1):  # renumbered, to hide a gap
                return Damage.REMOVED, expected
            return Damage.CHANGED, expected
        if entry.salt is not None and entry.digest != digest_of(entry):
            return Damage.CHANGED, expected
        if entry.previous != self.hash:
            following = next(rest, None)
            is_original = following is None or following.previous == entry.hash
            return Damage.CHANGED, self.length if is_original and self.length else expected
        return None


def _numbers(after: dict[str, Any] | None) -> list[int]:
    found: Any = (after or {}).get("entries")
    return [int(seq) for seq in cast("list[Any]", found)] if isinstance(found, list) else []
