"""Misspelt settings: what is named, and what belongs to other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings, base, load_settings, spelling
from laneway.platform.settings.base import ProjectFolder
from laneway.platform.settings.spelling import settings_warnings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project whose `.env` is read."""
    project = ProjectFolder()
    project.use(tmp_path)
    for module in (base, spelling, "laneway.platform.settings"):
        target = f"{module}.project" if isinstance(module, str) else f"{module.__name__}.project"
        monkeypatch.setattr(target, project)
    for name in ("TASK_MAX_RETRIES", "API_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def warnings(environment: dict[str, str] | None = None) -> list[str]:
    """The warnings about settings that are all at their defaults."""
    settings = Settings.model_construct()
    return settings_warnings(settings, environment or {})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TASK_MAX_RETRY", "TASK_MAX_RETRIES"),
        ("REDIS_ULR", "REDIS_URL"),
        ("redisurl", "REDIS_URL"),
        ("WORKER_CONCURENCY", "WORKER_CONCURRENCY"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ],
)
def test_a_variable_that_resembles_a_setting_is_named(folder: Path, name: str, meant: str) -> None:
    assert warnings({name: "x"}) == [f"The environment variable {name.upper()} is no setting; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "PWD", "XDG_DATA_DIRS", "CELERY_LOG_LEVEL", "FLOWER_CONF"),
        *("API_SERVICE_HOST", "REDIS_PORT_6379_TCP", "REDIS_PORT_6379_TCP_PORT", "POSTGRES_URL", "SMTP_USERNAME"),
        "REDIS_URL",
    ],
)
def test_variables_of_other_programs_and_correct_ones_are_left_alone(folder: Path, name: str) -> None:
    assert warnings({name: "x"}) == []


def test_who_has_set_the_right_one_means_something_else(folder: Path) -> None:
    assert warnings({"DATABASE_URI": "x", "DATABASE_URL": "y"}) == []
    assert len(warnings({"DATABASE_URI": "x", "DATABASE_URL": ""})) == 1


def test_every_line_of_the_file_that_is_no_setting_is_named(folder: Path) -> None:
    text = "# a comment\n\nTASK_MAX_RETRY=3\nexport API_PORT=8001\nFOO='a\nb'\nnothing here\nredis_port=1\n"
    (folder / ".env").write_text(text, "utf-8")

    assert warnings() == [
        f"{folder / '.env'}, line 3: TASK_MAX_RETRY is no setting; did you mean TASK_MAX_RETRIES?",
        f"{folder / '.env'}, line 5: FOO is no setting.",
        f"{folder / '.env'}, line 7: this is no NAME=value.",
    ]


def test_a_value_out_of_range_is_named_with_its_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "TASK_MAX_RETRIES: Input should be greater than or equal to 0"
    (folder / ".env").write_text("\nTASK_MAX_RETRIES=-1\n", "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_settings(Settings)
    assert str(refused.value).endswith(f"{problem} ({folder / '.env'}, line 2)")

    monkeypatch.setenv("TASK_MAX_RETRIES", "-2")
    with pytest.raises(ConfigError) as refused:
        load_settings(Settings)
    assert str(refused.value).endswith(problem)


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / ".env").write_bytes(b"API_PORT=\xff\n")

    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        load_settings(Settings)


def test_a_project_without_the_file_has_no_warnings(folder: Path) -> None:
    assert warnings() == []
