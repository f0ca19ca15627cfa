"""Secrets that the platform makes itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.settings.stored_secret import stored_secret


def test_a_secret_is_generated_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    secret = stored_secret(path, instead="SESSION_SECRET")

    assert stored_secret(path, instead="SESSION_SECRET") == secret
    assert len(secret) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert stored_secret(path, instead="SESSION_SECRET") == secret
    assert path.stat().st_mode & 0o777 == 0o600, "others lose their access"
    assert [each.name for each in path.parent.iterdir()] == ["secret"]
    path.write_text("\n")
    with pytest.raises(ConfigError, match=r"is empty.*set SESSION_SECRET"):
        stored_secret(path, instead="SESSION_SECRET")
