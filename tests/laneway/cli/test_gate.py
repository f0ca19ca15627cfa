"""`laneway gate`: its exit codes, and what it prints of an installation, and of a project in two versions."""

from __future__ import annotations

import json
import os
from pathlib import Path

from laneway.engine import Message
from tests.fixtures.shell import Shell, run_program
from tests.fixtures.valkey import RedisUrls

PROJECT = """[project]
name = "pictures"

[tool.laneway]
tasks = ["pictures.tasks"]
"""
TASKS = """from laneway import task


@task
def resize({fields}) -> None:
    pass
"""
SECRET = "ann@example.org"
PAYLOAD = json.dumps({"owner": SECRET, "width": 3})


def put(laneway: Shell, name: str) -> None:
    engine = laneway.site.services.broker.engine
    assert engine is not None
    engine.put("crm", Message(id=name, task_id=name, name=name, body=b"[[], {}, {}]"))


def test_nothing_that_waits_would_fail(laneway: Shell) -> None:
    ran = laneway("gate")

    assert ran.code == 0
    assert "Nothing would fail." in ran.out


def test_what_would_fail_is_printed_with_its_number_and_examples(laneway: Shell) -> None:
    put(laneway, "crm_gone")

    ran, as_json = laneway("gate"), laneway("gate", "--json")

    assert (ran.code, as_json.code) == (1, 1)
    assert "unknown_task  crm_gone: 1 (1 pending)\n    This code has no task 'crm_gone'.\n    crm_gone" in ran.out
    assert "1 would fail." in ran.out
    assert as_json.json()["failing"] == 1
    assert as_json.json()["findings"][0]["kind"] == "unknown_task"


def test_it_does_not_work_over_http(laneway: Shell) -> None:
    ran = laneway("--url", "http://127.0.0.1:1", "gate")

    assert ran.code == 2
    assert "`laneway gate` needs the project" in ran.err


def test_a_new_version_of_a_project_is_tried_on_what_the_old_one_has_submitted(
    tmp_path: Path, redis_urls: RedisUrls
) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    code = tmp_path / "pictures" / "tasks.py"
    code.parent.mkdir()
    (code.parent / "__init__.py").touch()
    environment = os.environ | {
        "CELERY_BROKER_URL": redis_urls.broker,
        "CELERY_RESULT_BACKEND": redis_urls.backend,
        "DATA_DIR": str(tmp_path / "data"),
    }

    def run(fields: str, *words: str) -> tuple[int, str]:
        code.write_text(TASKS.replace("{fields}", fields))
        ran = run_program(*words, environment=environment, folder=tmp_path)
        assert "Traceback" not in ran.err, ran.err
        return ran.code, ran.out + ran.err

    submitted = run("owner: str, width: int", "submit", "resize", "--payload", PAYLOAD)
    assert submitted[0] == 0, submitted
    (status, told) = run("owner: str, size: int", "gate")
    assert status == 1, told
    assert "size: Field required; the field 'width' is not known" in told
    assert "owner: text, width: whole number" in told
    assert SECRET not in told
    assert run("owner: str, width: int, size: int = 0", "gate")[0] == 0
