"""Where settings are read from: the environment first, then `.env` in the project's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from laneway.platform.settings import base
from laneway.platform.settings.base import Group, ProjectFolder, absolute


class ShopSettings(Group):
    """A group of an application."""

    currency: str = Field("EUR", alias="SHOP_CURRENCY")
    orders: int = Field(10, alias="SHOP_ORDERS")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the project, chosen explicitly."""
    project = ProjectFolder()
    project.use(tmp_path)
    monkeypatch.setattr(base, "project", project)
    for name in ("SHOP_CURRENCY", "SHOP_ORDERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("SHOP_CURRENCY=CHF\nSHOP_ORDERS=20\nUNKNOWN=1\n", "utf-8")
    monkeypatch.setenv("SHOP_CURRENCY", "SEK")

    settings = ShopSettings()  # pyright: ignore[reportCallIssue]

    assert (settings.currency, settings.orders) == ("SEK", 20)


def test_an_empty_variable_counts_as_unset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_CURRENCY", "")

    assert ShopSettings().currency == "EUR"  # pyright: ignore[reportCallIssue]


def test_tests_may_leave_the_file_out(folder: Path) -> None:
    (folder / ".env").write_text("SHOP_ORDERS=20\n", "utf-8")
    base.project.reads_env_file = False

    assert ShopSettings().orders == 10  # pyright: ignore[reportCallIssue]


def test_the_project_is_the_nearest_folder_with_a_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "shop" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert ProjectFolder().path == deep, "without a project file: the current folder"

    (tmp_path / "shop" / "pyproject.toml").touch()

    assert ProjectFolder().path == tmp_path / "shop"


def test_relative_paths_start_at_the_projects_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")

    assert absolute(Path("data/../other")) == folder.resolve() / "other"
    assert absolute(Path("/srv/data")) == Path("/srv/data")
    assert absolute(Path("~/data")) == Path.home().resolve() / "data"
