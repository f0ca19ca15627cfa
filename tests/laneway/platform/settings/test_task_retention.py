"""How long finished tasks are kept, by state and by queue: the settings, and what wrong ones say."""

from __future__ import annotations

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings, TaskRetentionSettings, load_settings
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Environment


def test_the_most_exact_value_counts() -> None:
    settings = TaskRetentionSettings.model_validate(
        {
            "RETENTION_DAYS_BY_STATE": "failed=90, expired=1",
            "RETENTION_DAYS_BY_QUEUE": "emails=7,emails/failed=60,",
            "RETENTION_DAYS_BY_NAME": "invite=3, invite/failed=500",
        }
    )

    def days(state: TaskState, queue: str | None = None, name: str | None = None) -> int:
        return settings.kept(state, queue=queue, name=name, default=30).days

    assert [days(TaskState.FAILED, "emails", "invite"), days(TaskState.EXPIRED, "emails", "invite")] == [500, 3]
    assert [days(TaskState.FAILED, "emails"), days(TaskState.EXPIRED, "emails")] == [60, 7]
    assert [days(TaskState.FAILED), days(TaskState.EXPIRED), days(TaskState.COMPLETED)] == [90, 1, 30]
    assert settings.kept(TaskState.FAILED, queue="emails", default=30).setting == (
        "RETENTION_DAYS_BY_QUEUE: emails/failed=60"
    )


def test_they_are_read_from_the_environment(environment: Environment) -> None:
    environment(RETENTION_DAYS_BY_STATE="failed=90", RETENTION_DAYS_BY_QUEUE="emails=7")

    settings = load_settings(Settings)
    assert (settings.task_retention.by_state, settings.task_retention.by_queue) == ({"failed": 90}, {"emails": 7})


def test_a_wrong_value_is_named_with_an_example(environment: Environment) -> None:
    for name, value, problem in (
        ("RETENTION_DAYS_BY_STATE", "failed", "'failed' is not name=days, with 1 to 36500 days, such as failed=90"),
        ("RETENTION_DAYS_BY_STATE", "failed=0", "'failed=0' is not name=days"),
        ("RETENTION_DAYS_BY_STATE", "failed=" + "9" * 5_000, "is not name=days"),
        ("RETENTION_DAYS_BY_STATE", "failed=1,failed=2", "'failed' is there twice"),
        ("RETENTION_DAYS_BY_STATE", "done=1", "'done' is no state in which tasks end; these are cancelled, completed,"),
        ("RETENTION_DAYS_BY_QUEUE", "emails/pending=1", "'pending' is no state in which tasks end"),
        ("RETENTION_DAYS_BY_NAME", "invite/done=1", "'done' is no state in which tasks end"),
        ("RETENTION_DAYS_BY_QUEUE", "=1", "'=1' is not name=days"),
    ):
        environment(RETENTION_DAYS_BY_STATE="", RETENTION_DAYS_BY_QUEUE="", RETENTION_DAYS_BY_NAME="")
        environment(**{name: value})
        with pytest.raises(ConfigError) as raised:
            load_settings(Settings)
        assert name in str(raised.value)
        assert problem in str(raised.value)
