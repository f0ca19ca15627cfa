"""The demo says whose platform it uses, and refuses another one."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from app import demo
from app.demo.scenario import DemoFailed
from laneway.platform.db.session import Database
from tests.fixtures.api_calls import Api
from tests.fixtures.platform import Environment, settings_for
from tests.fixtures.valkey import RedisUrls


def name_platform(api: Api, settings: Any) -> str:
    """Ask the API of this process which platform it is; returns what the demo prints."""
    out = StringIO()
    demo.name_platform(settings, cast("Any", api.http), Console(file=out, width=200))
    return out.getvalue()


def test_the_own_platform_is_named(api: Api) -> None:
    assert f"installation {api.services.installation.id}" in name_platform(api, api.services.settings)


def test_the_platform_of_another_installation_is_refused_with_both_ids(
    api: Api, environment: Environment, redis_urls: RedisUrls, tmp_path: Path
) -> None:
    own = settings_for(environment, Database(f"sqlite:///{tmp_path / 'own.db'}"), redis_urls, folder=tmp_path)
    with pytest.raises(DemoFailed, match="is another installation") as refused:
        name_platform(api, own)

    assert api.services.installation.id in str(refused.value) and "API_PORT" in str(refused.value)
