"""The overview itself: one table, whose rows are those of the view, and keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static

from laneway.cli.board.background import ask
from laneway.cli.board.changes import Change, cancel_task, change, pause_queue, requeue_group, requeue_task, retry_task
from laneway.cli.board.dialogs import Help
from laneway.cli.board.pages import VIEWS, Look, Page, read
from laneway.cli.board.searching import Search, SearchError, parse
from laneway.cli.board.task_screen import TaskScreen
from laneway.cli.source import TaskFilter

if TYPE_CHECKING:
    from laneway.cli.source import Source

OF_TASKS = ("running", "tasks")
"""Views whose rows are tasks."""


class Board(App[None]):
    """Shows a platform until the user quits."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"view('{name}')", name, show=False) for number, name in enumerate(VIEWS, 1)),
        Binding("p", "pause", "Pause"),
        Binding("u", "resume", "Resume"),
        Binding("c", "cancel", "Cancel"),
        Binding("r", "retry", "Retry"),
        Binding("e", "requeue", "Requeue"),
        Binding("slash", "search", "Search"),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("escape", "leave", "Back", show=False),
        Binding("ctrl+r", "look", "Look now", show=False),
    ]
    CSS = """
    #head, #views, #note { height: 1; }
    #head { text-style: reverse; }
    #problem { height: auto; max-height: 3; display: none; text-style: bold; }
    #search { display: none; height: 3; }
    DataTable { height: 1fr; }
    """

    def __init__(self, source: Source, *, every: float) -> None:
        super().__init__()
        self._source, self._every = source, every
        self.look_at = Look()
        self._reading: Look | None = None
        self._shown: tuple[object, ...] = ()
        self._page = Page((), ())

    def compose(self) -> ComposeResult:
        """The head, the views, a line for problems, the table, the search and the keys."""
        yield Static(id="head", markup=False)
        yield Static(id="views", markup=False)
        yield Static(id="problem", markup=False)
        yield Static("…", id="note", markup=False)
        yield DataTable[Text](cursor_type="row", zebra_stripes=True)
        yield Input(placeholder="id, name, or queue= state= tag= key= error= since=", id="search")
        yield Footer()

    def on_mount(self) -> None:
        """Look now, and then every few seconds."""
        self._head()
        self.query_one(DataTable).focus()
        self.action_look()
        self.set_interval(self._every, self.action_look)

    # --- reading

    def action_look(self) -> None:
        """Read the page, unless the last reading of the same has not ended."""
        look = self.look_at
        if self._reading is look or len(self.screen_stack) > 1:
            return
        self._reading = look
        ask(
            lambda: read(self._source, look, at=time.monotonic()),
            then=lambda page: self._show(look, page),
            failed=lambda reason: self._say(look, reason),
        )

    def _show(self, look: Look, page: Page) -> None:
        if self._reading is look:
            self._reading = None
        if look is not self.look_at or not self.is_running:
            return
        base = self.screen_stack[0]
        base.query_one("#problem").display = False
        base.query_one("#note", Static).update(page.note if page.rows else f"{page.note}  {page.empty}")
        self._head(time.strftime("%H:%M:%S"))
        self._fill(base.query_one(DataTable[Text]), page, is_other=look is not (self._shown and self._shown[0]))
        self._page, self._shown = page, (look,)

    def _fill(self, table: DataTable[Text], page: Page, *, is_other: bool) -> None:
        """Replace the rows; the cursor stays at the row that it was on, if that is still there."""
        selected = None if is_other else self._selected()
        place = table.scroll_offset
        table.clear(columns=is_other)
        if is_other:
            for title in page.columns:
                table.add_column(title, key=title)
        for row in page.rows:
            table.add_row(*(Text(cell) for cell in row.cells), key=row.key)
        keys = [row.key for row in page.rows]
        if selected in keys:
            table.move_cursor(row=keys.index(selected), animate=False, scroll=False)
            table.scroll_to(place.x, place.y, animate=False)

    def _say(self, look: Look, reason: str) -> None:
        """Say why nothing new is shown. What was read before stays, and the next look may succeed."""
        if self._reading is look:
            self._reading = None
        if look is self.look_at and self.is_running:
            problem = self.screen_stack[0].query_one("#problem", Static)
            problem.update(f"{reason} Trying again every {self._every:g} s; below is what was known.")
            problem.display = True

    def _head(self, at: str = "") -> None:
        base = self.screen_stack[0]
        base.query_one("#head", Static).update(f"laneway top  {self._source.description}  {at}")
        names = (
            f"[{number} {name}]" if name == self.look_at.view else f" {number} {name} "
            for number, name in enumerate(VIEWS, 1)
        )
        base.query_one("#views", Static).update("".join(names))

    def _selected(self) -> str | None:
        """The key of the row with the cursor."""
        row = self.screen_stack[0].query_one(DataTable[Text]).cursor_row
        return self._page.rows[row].key if 0 <= row < len(self._page.rows) else None

    # --- views

    def _open(self, look: Look) -> None:
        look.rates = self.look_at.rates
        self.look_at = look
        self._head()
        self.action_look()

    def action_view(self, name: str) -> None:
        """Show a view; the search keeps what was looked for."""
        self._open(Look(view=name, which=self.look_at.which))

    def action_leave(self) -> None:
        """Close the search, or go back to the groups, or to the queues."""
        search = self.query_one("#search", Input)
        if search.display:
            self._close_search(search)
        elif self.look_at.group is not None:
            self._open(Look(view="dead"))
        elif self.look_at.view != "queues":
            self._open(Look())

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open what the row shows."""
        key = event.row_key.value
        if key is None:
            return
        view, group = self.look_at.view, self.look_at.group
        if view == "queues":
            self._open(Look(view="tasks", which=TaskFilter(queue=key)))
        elif view == "dead" and group is None:
            self._open(Look(view="dead", group=key))
        elif view in (*OF_TASKS, "dead"):
            self.show_task(key)

    def show_task(self, id: str) -> None:
        """Open one task."""
        self.push_screen(TaskScreen(self._source, id, every=self._every), lambda _: self.action_look())

    # --- searching

    def action_search(self) -> None:
        """Open the line in which one types what to look for."""
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look for what was typed: a word alone may be an id."""
        try:
            search = parse(event.value)
        except SearchError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._close_search(event.input)
        if search.word:
            ask(
                lambda: self._source.show(search.word),
                then=lambda task: self.show_task(task.task_id),
                failed=lambda _: self._found(search),
            )
        else:
            self._found(search)

    def _found(self, search: Search) -> None:
        self._open(Look(view="tasks", which=search.which))

    def _close_search(self, search: Input) -> None:
        search.value = ""
        search.display = False
        self.query_one(DataTable).focus()

    # --- changing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only the keys that do something in this view are shown and taken."""
        del parameters
        view, group = self.look_at.view, self.look_at.group
        if action in ("pause", "resume"):
            return view == "queues"
        if action in ("cancel", "retry"):
            return view in OF_TASKS or group is not None
        return view == "dead" if action == "requeue" else True

    def _change(self, make: Any, **options: Any) -> None:
        key = self._selected()
        if key is None:
            self.notify("Select a row first.", severity="warning")
            return
        wanted: Change = make(self._source, key, **options)
        change(self, wanted, done=self.action_look)

    def action_pause(self) -> None:
        """Pause the queue with the cursor."""
        self._change(pause_queue, paused=True)

    def action_resume(self) -> None:
        """Resume the queue with the cursor."""
        self._change(pause_queue, paused=False)

    def action_cancel(self) -> None:
        """Cancel the task with the cursor."""
        self._change(cancel_task)

    def action_retry(self) -> None:
        """Run the task with the cursor again."""
        self._change(retry_task)

    def action_requeue(self) -> None:
        """Queue a group of dead letters, or one of them, again."""
        if self.look_at.group is not None:
            self._change(requeue_task)
            return
        counts = {row.key: row.cells[0] for row in self._page.rows}
        self._change(requeue_group, number=counts.get(self._selected() or "", ""))

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())
