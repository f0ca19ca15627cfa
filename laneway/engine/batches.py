"""Splits long lists into batches that are bounded by number and by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def split(items: Iterable[T], size: Callable[[T], int], *, most: int, most_bytes: int) -> Iterator[list[T]]:
    """Yield the items in batches of at most `most` items and `most_bytes` bytes. A larger item is a batch of its own.

    `size`: the bytes of an item. One item is taken ahead of each batch.
    """
    batch, filled = list[T](), 0
    for item in items:
        bytes_of_item = size(item)
        if batch and (len(batch) == most or filled + bytes_of_item > most_bytes):
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += bytes_of_item
    if batch:
        yield batch
