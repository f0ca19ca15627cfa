"""Checks the snippets that are data: TOML, YAML, JSON, settings."""

from __future__ import annotations

import json
import tomllib
from io import StringIO
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from app.core.settings import load_settings
from app.services.webhooks.mapping.loading import load_mapping
from laneway.platform.project_file import Section
from laneway.platform.workflows.definitions import parsed_definition
from laneway.platform.workflows.plan import Plan
from tests.docs.blocks import Block
from tests.fixtures.platform import setting_names


def check_toml(block: Block) -> None:
    """It is TOML, and a section `[tool.laneway]` is one that the library reads."""
    section = tomllib.loads(block.text).get("tool", {}).get("laneway")
    if section is not None:
        Section.model_validate(section)


def check_yaml(block: Block) -> None:
    """It is YAML; a workflow or a mapping of events is valid."""
    content: Any = yaml.safe_load(block.text)
    if isinstance(content, dict) and "steps" in content:
        Plan(parsed_definition(str(block), content))
    if isinstance(content, dict) and "rules" in content:
        load_mapping(block.text, file=str(block))


def check_json(block: Block) -> None:
    """It is JSON."""
    json.loads(block.text)


def check_dotenv(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a setting, and the settings are valid."""
    values = dotenv_values(stream=StringIO(block.text), interpolate=False)
    assert [name for name in values if name not in setting_names()] == [], "these are no settings"
    for name, value in values.items():
        assert value is not None, f"{name} has no value"
        monkeypatch.setenv(name, value)
    load_settings()
