"""The messages of a pool process in its pipe."""

from __future__ import annotations

import os
import pickle
import struct
from types import SimpleNamespace

import pytest
from billiard.pool import ACK, READY

from laneway.worker.prefork import PIPE_BUF, ResultHandler, ResultWriter, _messages, _payload  # pyright: ignore[reportPrivateUsage]
from laneway.worker.start_pipe import StartPipe


def packed(*messages: object) -> bytes:
    return b"".join(struct.pack(">I", len(body)) + body for body in map(pickle.dumps, messages))


def test_complete_messages_are_read_in_order_and_an_incomplete_one_is_left() -> None:
    whole, last = packed((1, "a"), (2, "b")), packed((3, "c"))
    for cut in range(len(last)):
        assert _messages(whole + last[:cut]) == ([(1, "a"), (2, "b")], len(whole))
    assert _messages(whole + last) == ([(1, "a"), (2, "b"), (3, "c")], len(whole + last))


@pytest.mark.parametrize("size", [0, PIPE_BUF - 4, PIPE_BUF - 3, 100_000])
def test_a_job_is_one_write_if_a_pipe_takes_it_as_a_whole(size: int) -> None:
    head, body, rest = _payload(b"x" * size)
    assert bytes(head) + bytes(body) == struct.pack(">I", size) + b"x" * size
    assert rest == (0 if size + 4 <= PIPE_BUF else size)
    assert len(head) <= PIPE_BUF


def test_a_process_reports_its_start_in_the_start_pipe_and_its_result_in_the_other() -> None:
    reader, writer = os.pipe()
    start_pipe = StartPipe()
    queue = SimpleNamespace(_writer=SimpleNamespace(fileno=lambda: writer), start_pipe=start_pipe)
    results, started = ResultWriter(queue), (ACK, (7, None, 2.5, 4711, None))
    results.put(started)
    results.uses_start_pipe = True
    results.put((ACK, (8, None, 3.5, 4711, None)))
    results.put((READY, (8, None, (True, "done"), 5)))

    assert list(start_pipe.read()) == [(8, 3.5)]
    assert list(start_pipe.read()) == []
    assert _messages(os.read(reader, 65536))[0] == [started, (READY, (8, None, (True, "done"), 5))]
    os.close(reader)
    os.close(writer)


def test_the_parts_of_a_message_are_joined_but_not_with_those_of_the_next_process() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    handler = ResultHandler.__new__(ResultHandler)
    handler._parts = {}  # pyright: ignore[reportPrivateUsage]
    first, second = object(), object()
    message = packed((READY, "x" * 100))

    assert handler.take(reader, first) is None
    os.write(writer, message + message[:7])
    assert handler.take(reader, first) == [(READY, "x" * 100)]
    os.write(writer, message[7:50])
    assert handler.take(reader, first) == []
    os.write(writer, message[50:] + message[:30])
    assert handler.take(reader, first) == [(READY, "x" * 100)]
    os.write(writer, message)
    assert handler.take(reader, second) == [(READY, "x" * 100)]
    os.close(writer)
    with pytest.raises(EOFError):
        handler.take(reader, second)
    os.close(reader)
