"""The demo's scenes of conversations."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import httpx2
from rich.console import Console
from sqlalchemy import func, select

from app.core.settings import load_settings
from app.db.models import Passage
from app.demo.conversations import ingest
from app.demo.scenario import Scenario
from laneway.platform.db.session import Database
from tests.fixtures.platform import Environment


def test_the_example_documents_are_ingested_into_a_new_database(environment: Environment, tmp_path: Path) -> None:
    environment(DATA_DIR=str(tmp_path), DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")
    settings, out = load_settings(), StringIO()
    with httpx2.Client() as client:
        ingest(Scenario(settings, client, Console(file=out, width=120)))

    database = Database(settings.storage.url)
    with database.reading() as session:
        assert (session.scalar(select(func.count()).select_from(Passage)) or 0) > 10
    database.close()
    assert "Returns and refunds" in out.getvalue()
