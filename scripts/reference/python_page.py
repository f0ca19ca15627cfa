"""The page of the Python API: the public names of the packages that a user imports."""

from __future__ import annotations

import importlib
from typing import Final

PACKAGES: Final = {
    "laneway": "Tasks of your own, and the delivery engine.",
    "laneway.client": "Use a platform over HTTP (`laneway[client]`).",
    "laneway.testing": "Run tasks in tests, without servers.",
}
"""Package → what it is for."""


def python_page() -> str:
    """The Markdown of the page; mkdocstrings fills it."""
    parts = ["# Python API\n\nThese names are public. Everything else may change without notice.\n"]
    for package, purpose in PACKAGES.items():
        parts.append(f"## {package}\n\n{purpose}\n")
        parts += [f"::: {package}.{name}\n" for name in sorted(importlib.import_module(package).__all__)]
    return "\n".join(parts)
