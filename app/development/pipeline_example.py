"""The pipeline in development: allows the example's commands below the data folder.

Only `laneway up` sets this, only for its own processes, only in development, and only while neither PIPELINE_ROOT nor
PIPELINE_COMMANDS is set. The commands run code from the working folder, so whoever may write there decides what runs;
callers of the API can only name a folder and a command. In production only configured commands run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from app.core.settings import ROOT, Settings
from laneway.server.checks import make_folder

EXAMPLE: Final = ROOT / "examples" / "pipeline"
INPUT: Final = {"dev": "build", "qa": "test", "fix": "apply-patch", "deploy": "release"}
"""The names of the commands, as input of the workflow `delivery_pipeline`."""


def for_development(settings: Settings) -> dict[str, str]:
    """Environment variables that allow the example's commands; empty in production or without the example."""
    commands = EXAMPLE / "commands.json"
    unset = settings.pipeline.root is None and not settings.pipeline.commands
    if settings.operation.environment != "development" or not unset or not commands.exists():
        return {}
    folder = make_folder(settings.storage.folder / "pipeline")
    return {"PIPELINE_ROOT": str(folder), "PIPELINE_COMMANDS": commands.read_text("utf-8")}


def copy_example(root: Path, name: str) -> Path:
    """Copy the example project, with its defect, as a working folder; an older copy is replaced."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
