"""Fixtures of the acceptance tests: one installation per module; each test's processes are killed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.site import FIGURES, Site, report, running_site

Report = Callable[[str, object], None]


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation (broker, SQLite) for the module."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The module's installation; the processes of the test are killed at its end."""
    if not shared_site.valkey.running:
        shared_site.valkey.start()
    yield shared_site
    shared_site.end_nodes()


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Report:
    """Print a figure that the test measured at the end of the run."""
    return lambda name, value: report(pytestconfig, name, value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures that the tests measured."""
    for line in config.stash.get(FIGURES, list[str]()):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the figures of an xdist process to the main process."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["figures"] = session.config.stash.get(FIGURES, list[str]())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Collect the figures of an xdist process."""
    figures: list[str] = getattr(node, "workeroutput", {}).get("figures", [])
    config: pytest.Config = getattr(node, "config")  # noqa: B009  xdist is untyped
    config.stash.setdefault(FIGURES, list[str]()).extend(figures)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the pytest-celery suite without its plugin, which replaces Celery's own fixtures."""
    needs_plugin = collection_path.name == "pytest_celery_suite"
    return True if needs_plugin and not config.pluginmanager.hasplugin("celery") else None
