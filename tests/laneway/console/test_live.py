"""Open pages are renewed together, and within a share of a processor core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from time import thread_time

from laneway.console.live import LivePages, as_event


async def next_change(stream: AsyncGenerator[str]) -> str:
    """The next message that changes the page."""
    while True:
        message = await asyncio.wait_for(anext(stream), 5)
        if not message.startswith((":", "event: still-here")):
            return message


def test_all_who_look_at_a_page_share_one_rendering() -> None:
    async def run() -> tuple[list[str], int]:
        calls = 0

        def render() -> str:
            nonlocal calls
            calls += 1
            return "<p>same</p>"

        pages = LivePages(lambda: False, every=0.05)
        streams = [pages.watch("page", render) for _ in range(20)]
        messages = [await next_change(stream) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return messages, calls

    messages, calls = asyncio.run(run())
    assert set(messages) == {"data: <p>same</p>\n\n"}
    assert calls < 10


def test_only_what_has_changed_is_sent_again() -> None:
    async def run() -> list[str]:
        texts = iter(["one", "one", "one", "two", "two"])
        last = "one"

        def render() -> str:
            nonlocal last
            last = next(texts, last)
            return last

        stream = LivePages(lambda: False, every=0.01).watch("page", render)
        found = [await next_change(stream), await next_change(stream)]
        await stream.aclose()
        return found

    assert asyncio.run(run()) == ["data: one\n\n", "data: two\n\n"]


def test_renderings_take_no_more_than_their_share() -> None:
    async def run() -> tuple[int, float]:
        calls, spent = 0, 0.0

        def render() -> str:
            nonlocal calls, spent
            calls, began = calls + 1, thread_time()
            while thread_time() < began + 0.02:
                pass
            spent += thread_time() - began
            return str(calls)

        pages, loop = LivePages(lambda: False, every=0.01, share=0.1), asyncio.get_running_loop()
        stream, began = pages.watch("page", render), loop.time()
        while loop.time() < began + 1.5:
            await next_change(stream)
        await stream.aclose()
        return calls, spent / (loop.time() - began)

    calls, share = asyncio.run(run())
    assert calls > 2
    assert share < 0.15


def test_a_page_that_nobody_looks_at_is_not_rendered() -> None:
    async def run() -> tuple[int, int]:
        calls = 0

        def render() -> str:
            nonlocal calls
            calls += 1
            return str(calls)

        stream = LivePages(lambda: False, every=0.01).watch("page", render)
        await next_change(stream)
        await stream.aclose()
        await asyncio.sleep(0.05)  # a rendering that had begun
        before = calls
        await asyncio.sleep(0.2)
        return before, calls

    before, after = asyncio.run(run())
    assert before == after


def test_an_error_leaves_the_page_as_it_was() -> None:
    async def run() -> str:
        fails = iter([True, True])

        def render() -> str:
            if next(fails, False):
                raise ValueError("as asked")
            return "well"

        stream = LivePages(lambda: False, every=0.01).watch("page", render)
        found = await next_change(stream)
        await stream.aclose()
        return found

    assert asyncio.run(run()) == "data: well\n\n"


def test_lines_of_a_text_become_lines_of_an_event() -> None:
    assert as_event("<p>\n\n a\n</p>\n") == "data: <p>\ndata:  a\ndata: </p>\n\n"
