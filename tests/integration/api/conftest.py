"""The API in two forms: in this process without a worker (`api`), and as processes with a worker (`live`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import sql
from starlette.testclient import TestClient

from app.core.config import ROOT
from app.core.queues import QUEUES
from app.db.session import Database
from app.main import create_app
from app.services.container import Services
from tests.fixtures.databases import PostgresServer
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.site import Site, running_site
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.integration.api.calls import CONFIGURED, MAX_BODY, SHORT_REPLY_TIMEOUT, Api

MakeApi = Callable[..., Api]


@pytest.fixture
def make_api(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[MakeApi]:
    """Make the application with settings of the test's choice; once a test."""
    with ExitStack() as stack:

        def make(*, database: Database = platform_database, without: tuple[str, ...] = (), **more: str) -> Api:
            given = {name: value for name, value in CONFIGURED.items() if name not in without}
            given |= {"REPLY_TIMEOUT_SECONDS": str(SHORT_REPLY_TIMEOUT), "MAX_BODY_BYTES": str(MAX_BODY)}
            settings = settings_for(environment, database, redis_urls, folder=tmp_path, **{**given, **more})
            celery = stack.enter_context(celery_on(settings))
            services = Services(settings, celery)
            services.database = database
            app = create_app(settings)
            app.state.services = services
            return Api(TestClient(app, raise_server_exceptions=False), services, celery)

        yield make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """The application, no worker; on SQLite and on PostgreSQL."""
    return make_api()


@pytest.fixture
def platform(api: Api, valkey: RunningValkey) -> Platform:
    """What a worker and the servers do, beside that application."""
    return make_platform(api.services.settings, api.app, api.database, valkey=valkey)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """API and worker as processes, with documents to answer from; on SQLite and on PostgreSQL."""
    url = ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgresql_server")
        name = f"api_live_{uuid4().hex[:8]}"  # made anew whenever a process comes back to these tests
        server.run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = server.url(name)
    folder = tmp_path_factory.mktemp("live")
    with running_site(folder, database_url=url, MAX_BODY_BYTES=str(MAX_BODY), **CONFIGURED) as site:
        for document in sorted((ROOT / "examples" / "documents").glob("*.md")):
            site.services.knowledge.ingest_file(document)
        site.worker("live", queues=",".join(QUEUES))
        site.api()
        yield site
