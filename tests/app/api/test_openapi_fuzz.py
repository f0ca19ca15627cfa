"""The running API against its own OpenAPI document: Schemathesis sends valid and invalid requests to every route.

`FUZZ_EXAMPLES=500 pytest tests/app/api/test_openapi_fuzz.py` searches longer than `make test` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from sqlalchemy import update

from laneway.platform.db.models import TaskRun
from tests.fixtures.budget import LONG, budget
from tests.fixtures.databases import PostgresServer
from tests.fixtures.site import Site, running_site

EXAMPLES = {
    "sqlite": int(os.environ.get("FUZZ_EXAMPLES") or budget(short=1, long=20)),
    "postgresql": int(os.environ.get("FUZZ_EXAMPLES") or budget(short=1, long=10)),
}
"""Random examples per kind and route."""
PHASES = {
    "sqlite": "examples,coverage,fuzzing,stateful" if LONG else "examples,coverage",
    "postgresql": "fuzzing,stateful",
}
"""The requests that follow from the document alone are sent with one database, and the random ones with the other."""
SECONDS_PER_EXAMPLE = 80
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
CONFIGURATION = """
[checks]
# 503 is documented for a webhook source that is not configured. Every other 5xx is a bug.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
# The id of a conversation may be "message", so GET works on the path of POST /conversations/message, too.
allow_header_conformance.enabled = false

[[operations]]
# JSON Schema cannot express that a period must end after its start.
include-name = "POST /analytics/reports"
checks.positive_data_acceptance.enabled = false

[[operations]]
# JSON Schema cannot express that an id and an idempotency key exclude each other.
include-name-regex = "POST (/tasks(/batch)?|/batches(/.*/tasks)?)$"
checks.positive_data_acceptance.enabled = false
# The document has the payload of each task: the requests that follow from all of them would be some ten thousand.
phases.coverage.enabled = false

[[operations]]
# JSON Schema cannot express that a lead must not be empty.
include-name-regex = "(POST /api/leads|PUT /api/leads/.*)"
checks.positive_data_acceptance.enabled = false

[[operations]]
# JSON Schema cannot express which addresses are refused.
include-name = "POST /api/callbacks/destinations"
checks.positive_data_acceptance.enabled = false

[[operations]]
# JSON Schema cannot express that at least one filter or id must be given.
include-name-regex = "POST (/tasks/(cancel|retry|replay|reprioritise)|/dead-letters/.*|/api/callbacks/replay)"
checks.positive_data_acceptance.enabled = false

[[operations]]
# JSON Schema does not name the workflows and their inputs, nor that only a new run takes an id.
include-name-regex = "POST /api/(chat|workflows|workflows/.*/retry)"
checks.positive_data_acceptance.enabled = false

[[operations]]
# The document does not say that a schedule has either cron or every, nor which expressions, zones and tasks there are.
include-name-regex = "(POST /schedules|PUT /schedules/.*)"
checks.positive_data_acceptance.enabled = false

[[operations]]
# JSON Schema cannot express which object keys are refused.
include-name = "POST /api/documents/process"
checks.positive_data_acceptance.enabled = false

[[operations]]
# No worker runs here, so every wait for the end of a task would take as long as it may.
include-name = "GET /tasks/{task_id}"
parameters = { wait = 0.05 }

[[operations]]
# A feed that is followed has no end.
include-name = "GET /events"
parameters = { follow = false }

[[operations]]
# A stream of events ends with its task. No worker runs here, so only the stream of the ended task is read.
include-name = "GET /tasks/{task_id}/events"
parameters = { task_id = "ENDED" }
"""
ENDED = "ended"


@pytest.fixture
def site(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The API as a process, without workers."""
    url = ""
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgresql_server")
        server.run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("fuzz")))
        url = server.url("fuzz")
    secrets = {
        "FACEBOOK_APP_SECRET": "app",
        "FACEBOOK_VERIFY_TOKEN": "token",
        "GOOGLE_LEAD_KEY": "…",
        "WEBHOOK_SECRETS": json.dumps({"shop": "shop"}),
        "ALLOW_INSECURE": "FACEBOOK_APP_SECRET,FACEBOOK_VERIFY_TOKEN,GOOGLE_LEAD_KEY,WEBHOOK_SECRETS",
    }
    with running_site(tmp_path, database_url=url, REPLY_TIMEOUT_SECONDS="0.05", **secrets) as site:
        yield site


def end_one(site: Site) -> None:
    """End one task so that it cannot be retried: its task name does not exist any more."""
    site.message("fuzz", id=ENDED)
    assert site.services.tasks.cancel(ENDED).cancelled
    with site.services.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id == ENDED).values(name="no_longer_there_task"))


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.timeout(300 + SECONDS_PER_EXAMPLE * max(EXAMPLES.values()))
def test_every_route_conforms_to_the_document_for_any_input(kind: str, site: Site, tmp_path: Path) -> None:
    end_one(site)
    api = site.api()
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION.replace("ENDED", ENDED))
    ran = subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"http://127.0.0.1:{site.api_port}/openapi.json",
            "--max-examples",
            str(EXAMPLES[kind]),
            "--phases",
            PHASES[kind],
            "--continue-on-failure",
            "--no-color",
            *_seed(),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    assert "unexpected error" not in api.output()
    assert "Traceback" not in api.output()


def _seed() -> list[str]:
    """The seed options: ordinary runs use the same examples, longer runs use new ones."""
    return [] if "FUZZ_EXAMPLES" in os.environ or LONG else ["--seed", "1"]
