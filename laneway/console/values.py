"""Values of tasks, workflows and webhooks, as pages show them."""

from __future__ import annotations

import json
from typing import Any, Final

from laneway.platform.logging import without_secrets

LARGEST: Final = 20_000
"""Characters of JSON that are shown of one value."""


def shown_value(value: Any) -> Any:
    """A value without secrets, and a hint in place of one that is too large."""
    size = len(json.dumps(value, default=str))
    if size > LARGEST:
        return f"It has {size} characters, too many for this page. The API returns it."
    return without_secrets(value)
