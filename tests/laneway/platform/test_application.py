"""The section [tool.laneway] of a project: each mistake in it is one readable error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from laneway.platform import application as module
from laneway.platform.application import Application, application
from laneway.platform.errors import ConfigError
from laneway.platform.platform import Platform
from laneway.platform.settings.base import ProjectFolder

COMPLETE = {
    "celery": "shop.celery_app:celery_app",
    "platform": "laneway.platform.platform:Platform",
    "settings": "shop_of_tests:load_settings",
    "api": "shop.main:app",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a project without an application."""
    project = ProjectFolder()
    project.use(tmp_path)
    monkeypatch.setattr(module, "project", project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    application.cache_clear()
    yield tmp_path
    application.cache_clear()


def write_section(folder: Path, **values: str) -> None:
    lines = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    (folder / "pyproject.toml").write_text(f"[tool.laneway]\n{lines}", "utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        application()
    return str(refused.value).replace(str(folder.resolve()), "PROJECT")


def test_a_project_without_a_file_or_a_section_is_named(folder: Path) -> None:
    sentence = (
        "No Laneway project here: PROJECT/pyproject.toml has no section [tool.laneway]. "
        "Start the command in a project's folder."
    )
    assert refusal(folder) == sentence

    (folder / "pyproject.toml").write_text("[tool.other]\n", "utf-8")
    assert refusal(folder) == sentence


def test_a_file_that_is_no_toml_is_named(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.laneway\n", "utf-8")

    assert refusal(folder).startswith("PROJECT/pyproject.toml cannot be read: ")


def test_a_misspelt_key_and_a_missing_one_are_named(folder: Path) -> None:
    write_section(folder, **{"cellery" if name == "celery" else name: value for name, value in COMPLETE.items()})

    assert refusal(folder) == (
        "[tool.laneway] in PROJECT/pyproject.toml is not valid:\n"
        "  - celery: Field required\n"
        "  - cellery: Extra inputs are not permitted"
    )


def test_a_complete_section_makes_the_project_importable(folder: Path) -> None:
    write_section(folder, **COMPLETE)
    (folder / "shop_of_tests.py").write_text("def load_settings():\n    return 'settings'\n", "utf-8")

    assert application().load_settings() == "settings"
    sys.modules.pop("shop_of_tests")
    assert str(folder.resolve()) in sys.path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("shop", "it must be `module:name`."),
        ("no_such_shop:app", "but there is no module 'no_such_shop'."),
        ("laneway.no_such_module:app", "but there is no module 'laneway.no_such_module'."),
        ("laneway.platform.platform:Platfrom", "but laneway.platform.platform has no 'Platfrom'."),
    ],
    ids=["no colon", "a missing module", "a missing submodule", "a missing attribute"],
)
def test_a_part_that_does_not_exist_is_named(name: str, problem: str) -> None:
    broken = Application.model_validate({**COMPLETE, "settings": name})

    with pytest.raises(ConfigError) as refused:
        broken.load_settings()

    text = str(refused.value)
    assert text.startswith(f"[tool.laneway] names {name!r}")
    assert text.endswith(problem)


def test_an_import_error_inside_the_application_is_not_hidden(folder: Path) -> None:
    write_section(folder, **{**COMPLETE, "settings": "shop_that_fails:load_settings"})
    (folder / "shop_that_fails.py").write_text("import no_such_dependency\n", "utf-8")

    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        application().load_settings()


def test_the_optional_parts_may_be_left_out(folder: Path) -> None:
    write_section(folder, **COMPLETE)
    found = application()

    assert found.development is found.commands is None
    assert found.development_environment(None) == {}  # pyright: ignore[reportArgumentType]
    found.add_commands(None)
    assert found._platform_class() is Platform  # pyright: ignore[reportPrivateUsage]
