"""One task: its state, payload, attempts, and its log as it grows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from rich.console import Group
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from laneway.cli import views
from laneway.cli.board.background import ask
from laneway.cli.board.changes import cancel_task, change, requeue_task, retry_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laneway.cli.source import Source
    from laneway.schemas.task import AttemptView, EventView, TaskDetails

MOST_EVENTS: Final = 500
"""Events that are kept: the last ones."""


@dataclass(frozen=True, slots=True)
class TaskLook:
    """What was read of a task; `events`: those that are new."""

    task: TaskDetails
    attempts: Sequence[AttemptView]
    events: Sequence[EventView]


class TaskScreen(Screen[None]):
    """Shows a task, and looks at it again and again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "back", "Back"),
        ("c", "cancel", "Cancel"),
        ("r", "retry", "Retry"),
        ("e", "requeue", "Requeue"),
        ("question_mark", "app.help", "Help"),
    ]
    CSS = """
    TaskScreen #head { height: 1; text-style: reverse; }
    TaskScreen #problem { height: auto; max-height: 3; display: none; text-style: bold; }
    """

    def __init__(self, source: Source, id: str, *, every: float) -> None:
        super().__init__()
        self._source, self._id, self._every = source, id, every
        self._events: deque[EventView] = deque(maxlen=MOST_EVENTS)
        self._reading = False

    @property
    def _board(self) -> App[Any]:
        return cast("App[Any]", self.app)  # pyright: ignore[reportUnknownMemberType] - Textual types it in part

    def compose(self) -> ComposeResult:
        """A head, a line for problems, and everything else to scroll in."""
        yield Static(f"task {self._id}", id="head", markup=False)
        yield Static(id="problem", markup=False)
        with VerticalScroll(id="body"):
            yield Static("…", id="details", markup=False)
            yield Static("", id="log", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Look now, and then every few seconds."""
        self.query_one("#body").focus()
        self.look()
        self.set_interval(self._every, self.look)

    def look(self) -> None:
        """Read the task, unless the last reading has not ended."""
        if not self._reading:
            self._reading = True
            after = self._events[-1].id if self._events else 0
            ask(lambda: self._read(after), then=self._show, failed=self._say)

    def _read(self, after: int) -> TaskLook:
        task = self._source.show(self._id)
        return TaskLook(task, self._source.attempts(self._id), list(self._source.events(self._id, after=after)))

    def _show(self, found: TaskLook) -> None:
        self._reading = False
        if not self.is_attached:
            return
        self.query_one("#problem").display = False
        head = f"task {self._id}  {found.task.status.value}  {found.task.name}"
        self.query_one("#head", Static).update(head)
        attempts = [Text(), views.attempt_table(found.attempts), views.attempt_errors(found.attempts)]
        parts = [views.task_details(found.task), *(attempts if found.attempts else [])]
        self.query_one("#details", Static).update(Group(*parts))
        if found.events:
            body = self.query_one("#body", VerticalScroll)
            follows = bool(self._events) and body.is_vertical_scroll_end
            self._events.extend(found.events)
            self.query_one("#log", Static).update(Group(Text("\nlog", "bold"), views.event_table(list(self._events))))
            if follows:
                body.scroll_end(animate=False)

    def _say(self, reason: str) -> None:
        self._reading = False
        if self.is_attached:
            problem = self.query_one("#problem", Static)
            problem.update(f"{reason} Trying again.")
            problem.display = True

    def action_back(self) -> None:
        """Go back to the list."""
        self.dismiss(None)

    def action_cancel(self) -> None:
        """Cancel the task, after a question."""
        change(self._board, cancel_task(self._source, self._id), done=self.look)

    def action_retry(self) -> None:
        """Run the task again, after a question."""
        change(self._board, retry_task(self._source, self._id), done=self.look)

    def action_requeue(self) -> None:
        """Queue the dead letter again, after a question."""
        change(self._board, requeue_task(self._source, self._id), done=self.look)
