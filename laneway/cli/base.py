"""What the commands share: the console, the platform that they talk to, JSON output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from laneway._masking import masked
from laneway._printable import printable
from laneway.cli.completion import complete
from laneway.cli.missing import forget_missing, report_missing, say_missing
from laneway.cli.target import say_whose, target

if TYPE_CHECKING:
    from pydantic import BaseModel

    from laneway.cli.api_source import ApiSource
    from laneway.cli.source import Source
    from laneway.platform.platform import Platform
    from laneway.platform.settings import Settings

M = TypeVar("M", bound="BaseModel")
WIDE = 100_000
"""The width of an output that is no terminal: nothing is cut or wrapped."""


class Screen(Console):
    """A console that shows control characters in untrusted text (responses, file names) as replacement marks.

    It wraps no lines: a terminal does that itself, and then a copied line is whole.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, with a replacement mark for each control character."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of the output. Whatever was printed, a text in it cannot control the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print without wrapping and cutting, unless the options say otherwise."""
        options.setdefault("soft_wrap", True)
        super().print(*objects, **options)

    def rule(self, title: Any = "", **options: Any) -> None:
        """Print a heading, with a line at a terminal: an output that is none has no width to fill."""
        if self.is_terminal:
            super().rule(title, **options)
        else:
            self.print(title)


out = Screen(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False, highlight=False)
"""Prints ids, errors and file names unchanged, because none of them is markup."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Id = Annotated[str, typer.Argument(help="The task's id.", autocompletion=complete("ids"))]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show how many match, and which.")]


# The functions import when they are called, so that the help of a command does not import the whole platform.
def read_settings() -> Settings:
    """The settings of the project's application. Raises ConfigError, and UsageError for a platform at a URL."""
    target.require_local()
    from laneway.platform.application import application

    return application().load_settings()


_opened: list[ApiSource] = []
"""What the command has to close at its end."""
_made: list[Platform] = []
"""The platform of the command that runs."""


def make_services() -> Platform:
    """The platform of the project's application, after its tables are migrated.

    Raises ConfigError, DatabaseUnavailable, ForeignBroker for the broker of another installation, and UsageError for a
    platform at a URL.
    """
    settings = read_settings()  # first, before the import of a module that reads settings
    from laneway.platform.application import application
    from laneway.platform.logging import configure_logging, quiet

    configure_logging(quiet(settings.operation))
    act_as_user()
    application().upgrade(settings)
    platform = application().make_platform(settings)
    platform.installation.check_broker()
    _made[:] = [platform]
    forget_missing()
    return platform


def make_reader() -> Platform:
    """A platform that only reads tasks. It is made quickly: the application's tasks are imported only if necessary.

    They are necessary to record events that are not recorded yet. Raises as `make_services`.
    """
    settings = read_settings()
    from laneway.platform.application import application
    from laneway.platform.db.migrate import upgrade
    from laneway.platform.errors import BrokerUnavailable
    from laneway.platform.logging import configure_logging, quiet

    configure_logging(quiet(settings.operation))
    act_as_user()
    upgrade(settings.storage.url)
    platform = application().make_reader(settings)
    platform.installation.check_broker()
    try:
        unread = platform.recorder.unread()
    except BrokerUnavailable:
        return make_services()
    if unread:
        platform.close()
        return make_services()
    platform.recorder.leave_to_others()
    _made[:] = [platform]
    forget_missing()
    return platform


def act_as_user() -> None:
    """Let the command act as the user of this machine who runs it."""
    from laneway.platform.access.caller import set_caller
    from laneway.platform.access.machine_user import machine_user

    set_caller(machine_user())


def source(*, as_json: bool = False, reads: bool = False, stays: bool = False) -> Source:
    """The platform that the command talks to. It is named on standard error unless that is obvious.

    `reads`: the command only reads tasks, workers or queues. `stays`: it stays open, perhaps for longer than the API.
    """
    from laneway.schemas.model import build_at_first_use

    build_at_first_use()
    if target.url is not None:
        from laneway.cli.remote_source import RemoteSource

        remote = RemoteSource(target.url, target.token)
        _opened.append(remote)
        if not as_json:
            say_whose(remote.description)
        return remote
    found = (None if stays else _own_source()) or _local_source(reads=reads)
    if not as_json and sys.stderr.isatty():
        from laneway.cli.whose import is_obvious

        if not is_obvious():
            say_whose(found.description)
    return found


def _own_source() -> Source | None:
    """The platform of the project through its API on this machine, if that runs."""
    from laneway.cli.own_api import find_own_api

    api = None if target.is_direct else find_own_api()
    if api is None:
        return None
    from laneway.cli.own_source import OwnSource

    forget_missing()
    own = OwnSource(api, itself=lambda: _local_source(reads=False))
    _opened.append(own)
    return own


def _local_source(*, reads: bool) -> Source:
    """The platform of the project, used in this process."""
    from laneway.cli.local_source import LocalSource
    from laneway.cli.whose import describe_platform

    platform = make_reader() if reads else make_services()
    return LocalSource(platform, description=describe_platform(platform.settings))


def close_sources() -> None:
    """Close the connections of the command that has ended; what comes after it does not act as its user."""
    while _opened:
        _opened.pop().close()
    if "laneway.platform.access.caller" in sys.modules:
        from laneway.platform.access.caller import NOBODY, set_caller

        set_caller(NOBODY)


def report_what_is_missing() -> int:
    """Say what the command could not show; returns 1 if there was something, else 0."""
    problem = _made[0].recorder.problem if _made else None
    if problem is not None:
        say_missing(f"This is what the database knows; newer events of tasks may be missing. {problem}")
    _made.clear()
    return report_missing()


def print_models(models: Sequence[BaseModel]) -> None:
    """Print models as a JSON list, for scripts."""
    print_json([model.model_dump(mode="json") for model in models])


def valid(model: type[M], **values: Any) -> M:
    """A request with these values. Raises BadParameter, with each value that is not valid."""
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in invalid.errors()]
        raise typer.BadParameter("; ".join(problems)) from None


def parse_object(text: str, *, option: str) -> dict[str, Any]:
    """The JSON object that an option holds. Raises BadParameter."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} must be a JSON object")
    return cast("dict[str, Any]", value)


def say_error(text: str) -> None:
    """Print text that others may have written on standard error."""
    typer.echo(printable(masked(text)), err=True)


def print_json(data: Any) -> None:
    """Print JSON, for scripts."""
    typer.echo(json.dumps(data, indent=2))
