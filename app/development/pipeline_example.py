"""The pipeline in development: the example's commands are allowed, below the data folder.

Only `laneway up` says so to the parts that it starts, only in development, and only while neither PIPELINE_ROOT nor
PIPELINE_COMMANDS is set. The commands run what lies in the working folder, so whoever may write there decides what is
run; callers of the API can only name a folder and a command. In production nothing is run that is not configured.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from app.core.settings import ROOT, Settings
from laneway.server.checks import make_folder

EXAMPLE: Final = ROOT / "examples" / "pipeline"
INPUT: Final = {"dev": "build", "qa": "test", "fix": "apply-patch", "deploy": "release"}
"""The commands' names, as the workflow `delivery_pipeline` is started with them."""


def for_development(settings: Settings) -> dict[str, str]:
    """Environment variables for the settings that are not set; none in production, and none without the example."""
    commands = EXAMPLE / "commands.json"
    unset = settings.pipeline.root is None and not settings.pipeline.commands
    if settings.operation.environment != "development" or not unset or not commands.exists():
        return {}
    folder = make_folder(settings.storage.folder / "pipeline")
    return {"PIPELINE_ROOT": str(folder), "PIPELINE_COMMANDS": commands.read_text("utf-8")}


def copy_example(root: Path, name: str) -> Path:
    """A fresh copy of the example project as a working folder; the defect is in it again."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
