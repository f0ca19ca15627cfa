"""The question before something is changed, and the help."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
1 queues   2 running   3 dead letters   4 workers   5 search

Enter      open: a queue's tasks, a group's dead letters, a task
Escape     back
/          search: an id, a name, or
           queue= name= state= tag= key= error= since= until=
p          pause the queue
u          resume the queue
c          cancel the task
r          retry the task (it must be over)
e          requeue: a group of dead letters, or one of them
Ctrl-R     look now
q, Ctrl-C  quit

Whatever changes something asks before.

wait, run: tasks that wait for a worker, and that run. later: due
later, retries included. in/s, out/s: tasks that came in and that ended, per second,
over the last 15 s. outbox: accepted, not yet sent to the broker.
"""


class Confirm(ModalScreen[bool]):
    """Asks whether something is to be done: y, or anything else."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "answer(True)", "Yes"),
        ("n,escape,q", "answer(False)", "No"),
    ]
    CSS = """
    Confirm { align: center middle; }
    Confirm Static { width: auto; max-width: 90%; height: auto; border: solid; padding: 0 1; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(f"{self._question}\n\ny: yes   n: no", markup=False)

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark,enter", "close", "Close")]
    CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 70; max-width: 100%; height: auto; max-height: 100%; border: solid; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """One text, which scrolls in a small window."""
        with VerticalScroll():
            yield Static(HELP, markup=False)

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)
