"""Settings are read from the environment, validated and frozen, and they hide secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.core import settings
from app.core.settings import ROOT, load_settings
from laneway.platform.errors import ConfigError
from laneway.platform.settings import project
from tests.fixtures.platform import Environment, setting_names

PASSWORD = "pl4nted-password"
STORAGE = {
    "STORAGE_URL": "s3://bucket",
    "STORAGE_ACCESS_KEY_ID": "hunter5",
    "STORAGE_SECRET_ACCESS_KEY": "hunter5",
}
QUOTED = "a%2Fb" * 6
S1, S2 = "secret-of-the-shop", "secret-of-the-crm"


@pytest.fixture(autouse=True)
def _clean(environment: Environment, tmp_path: Path) -> None:
    """Ignore the settings of this machine. The broker's password is known."""
    environment(DATA_DIR=str(tmp_path))
    (tmp_path / "broker-password").write_text(PASSWORD)


def refusal(environment: Environment, **values: str) -> str:
    environment(**values)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    return str(refused.value)


def test_without_any_setting_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load_settings()

    assert (settings.redis.broker_url, settings.redis.result_url) == (
        f"redis://:{PASSWORD}@127.0.0.1:6379/0",
        f"redis://:{PASSWORD}@127.0.0.1:6379/1",
    )
    tasks = settings.tasks
    assert (tasks.soft_time_limit, tasks.time_limit, tasks.max_retries, tasks.retry_delay) == (300, 600, 3, 60)
    assert (tasks.max_queue_size, tasks.status_expiry_hours) == (10_000, 24)
    assert (settings.api.host, settings.api.port, settings.api.flower_port) == ("127.0.0.1", 8000, 5555)
    assert type(settings.storage).model_fields["data_dir"].default == Path("data")
    assert settings.storage.url == f"sqlite:///{tmp_path / 'laneway.db'}"
    assert not settings.redis.external


def test_every_variable_of_the_contract_is_read() -> None:
    contract = """REDIS_HOST REDIS_PORT REDIS_DB_BROKER REDIS_DB_BACKEND REDIS_URL CELERY_BROKER_URL
        CELERY_RESULT_BACKEND CELERY_TASK_SERIALIZER CELERY_RESULT_SERIALIZER TASK_SOFT_TIME_LIMIT TASK_TIME_LIMIT
        TASK_MAX_RETRIES TASK_RETRY_DELAY MAX_QUEUE_SIZE TASK_STATUS_EXPIRY_HOURS DATABASE_URL DATA_DIR API_HOST
        API_PORT FLOWER_PORT FACEBOOK_APP_SECRET FACEBOOK_VERIFY_TOKEN GOOGLE_LEAD_KEY WEBHOOK_SECRETS
        OPENAI_BASE_URL OPENAI_API_KEY OPENAI_MODEL"""

    assert set(contract.split()) <= set(setting_names())
    assert len(setting_names()) == len(set(setting_names())), "each variable belongs to one setting"


@pytest.mark.parametrize(
    ("given", "broker", "results"),
    [
        (
            {"REDIS_HOST": "db", "REDIS_PORT": "7000", "REDIS_DB_BROKER": "4", "REDIS_DB_BACKEND": "5"},
            "redis://db:7000/4",
            "redis://db:7000/5",
        ),
        ({"REDIS_URL": "rediss://u:p@db:7000/9?a=1"}, "rediss://u:p@db:7000/0?a=1", "rediss://u:p@db:7000/1?a=1"),
        (
            {"REDIS_URL": "rediss://db", "REDIS_PASSWORD": "a/b" * 6},
            f"rediss://:{QUOTED}@db/0",
            f"rediss://:{QUOTED}@db/1",
        ),
        ({"REDIS_URL": "redis://:p@127.0.0.2"}, "redis://:p@127.0.0.2/0", "redis://:p@127.0.0.2/1"),
        ({"REDIS_URL": "rediss://db"}, "rediss://db/0", "rediss://db/1"),
        ({"REDIS_URL": "redis://db", "CELERY_BROKER_URL": "amqp://mq//"}, "amqp://mq//", "redis://db/1"),
        ({"CELERY_RESULT_BACKEND": "redis://r/7"}, f"redis://:{PASSWORD}@127.0.0.1:6379/0", "redis://r/7"),
    ],
)
def test_the_addresses_of_broker_and_results_follow_the_settings(
    environment: Environment, given: dict[str, str], broker: str, results: str
) -> None:
    environment(**given)

    redis = load_settings().redis

    assert (redis.broker_url, redis.result_url) == (broker, results)


@pytest.mark.parametrize(
    ("given", "on_engine"),
    [
        ({}, True),
        ({"REDIS_URL": "rediss://db"}, True),
        ({"CELERY_BROKER_URL": "unix:///run/valkey.sock"}, True),
        ({"CELERY_BROKER_URL": "sentinel://db:26379/0"}, True),
        ({"CELERY_BROKER_URL": "amqp://mq//"}, False),
        ({"BROKER_TRANSPORT": "celery"}, False),
        ({"BROKER_TRANSPORT": "laneway", "CELERY_BROKER_URL": "amqp://mq//"}, False),
    ],
)
def test_the_delivery_engine_is_used_where_possible_unless_it_is_disabled(
    environment: Environment, given: dict[str, str], on_engine: bool
) -> None:
    environment(**given)

    assert load_settings().redis.on_engine is on_engine


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgresql://u:p@localhost/x", "postgresql+psycopg://u:p@localhost/x"),
        ("postgres://db/x", "postgresql+psycopg://db/x"),
        ("postgresql+psycopg://db/x", "postgresql+psycopg://db/x"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_database_addresses_are_understood(environment: Environment, given: str, url: str) -> None:
    environment(DATABASE_URL=given)

    assert load_settings().storage.url == url


def test_an_empty_variable_counts_as_unset(environment: Environment) -> None:
    environment(REDIS_URL="", TASK_MAX_RETRIES="", WEBHOOK_SECRETS="", OPENAI_BASE_URL="")

    assert load_settings().tasks.max_retries == 3
    assert load_settings().webhooks.secrets == {}


def test_webhook_secrets_are_given_in_json_plain_or_with_a_header(environment: Environment) -> None:
    environment(WEBHOOK_SECRETS=f'{{"shop": "{S1}", "crm": {{"secret": "{S2}", "header": "X-Crm-Signature"}}}}')

    secrets = load_settings().webhooks.secrets

    assert {name: (key.secret.get_secret_value(), key.header) for name, key in secrets.items()} == {
        "shop": (S1, "X-Signature-256"),
        "crm": (S2, "X-Crm-Signature"),
    }


RECEIVER = {"OUTBOUND_WEBHOOK_URL": "https://x.example", "OUTBOUND_WEBHOOK_SECRET": "s"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"REDIS_DB_BROKER": "1"}, ["REDIS_DB_BROKER", "REDIS_DB_BACKEND"]),
        ({"TASK_SOFT_TIME_LIMIT": "600"}, ["TASK_SOFT_TIME_LIMIT", "TASK_TIME_LIMIT"]),
        ({"TASK_RETRY_DELAY": "7200"}, ["TASK_RETRY_DELAY", "TASK_RETRY_DELAY_MAX"]),
        ({"API_PORT": "5555"}, ["API_PORT", "FLOWER_PORT"]),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1"}, ["OPENAI_BASE_URL", "OPENAI_MODEL"]),
        ({"OUTBOUND_WEBHOOK_URL": "https://x.example"}, ["OUTBOUND_WEBHOOK_URL", "OUTBOUND_WEBHOOK_SECRET"]),
        ({"OUTBOUND_WEBHOOK_SECRET_PREVIOUS": "s"}, ["OUTBOUND_WEBHOOK_SECRET_PREVIOUS", "OUTBOUND_WEBHOOK_SECRET,"]),
        ({"OUTBOUND_WEBHOOK_SECRET": "s"}, ["OUTBOUND_WEBHOOK_SECRET", "OUTBOUND_WEBHOOK_URL"]),
        ({**RECEIVER, "OUTBOUND_WEBHOOK_SECRET": "whsec_?"}, ["OUTBOUND_WEBHOOK_SECRET", "base64"]),
        ({**RECEIVER, "OUTBOUND_WEBHOOK_SECRET_PREVIOUS": "whsec_?"}, ["OUTBOUND_WEBHOOK_SECRET_PREVIOUS", "base64"]),
        ({"OUTBOUND_KEY": "short"}, ["OUTBOUND_KEY"]),
        ({"OUTBOUND_KEY_PREVIOUS": "a" * 16}, ["OUTBOUND_KEY_PREVIOUS", "OUTBOUND_KEY,"]),
        ({"OUTBOUND_DISABLE_AFTER_DAYS": "0"}, ["OUTBOUND_DISABLE_AFTER_DAYS"]),
    ],
)
def test_an_impossible_combination_is_refused_with_both_names(
    environment: Environment, given: dict[str, str], named: list[str]
) -> None:
    told = refusal(environment, **given)

    assert all(name in told for name in named)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_PORT", "none"),
        ("REDIS_PORT", "70000"),
        ("REDIS_DB_BROKER", "-1"),
        ("TASK_MAX_RETRIES", "-1"),
        ("CELERY_TASK_SERIALIZER", "pickle"),
        ("CELERY_RESULT_SERIALIZER", "pickle"),
        ("MAX_QUEUE_SIZE", "0"),
        ("BROKER_TRANSPORT", "kombu"),
        ("DATABASE_URL", "mysql://db/x"),
        ("REDIS_URL", "unix:///run/redis"),
        ("WEBHOOK_SECRETS", "not json"),
        ("WEBHOOK_SECRETS", '{"shop": ""}'),
        ("WEBHOOK_SECRETS", '["shop"]'),
        ("OPENAI_BASE_URL", "ftp://x"),
        ("LOG_LEVEL", "LOUD"),
        ("TASK_LEASE_SECONDS", "1"),
        ("TASK_RETRY_DELAY", "nan"),
        ("FLOWER_USER", "a:b"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(environment: Environment, name: str, value: str) -> None:
    assert name in refusal(environment, **{name: value})


def test_all_problems_are_reported_at_once(environment: Environment) -> None:
    told = refusal(environment, REDIS_PORT="x", API_PORT="y", TASK_SOFT_TIME_LIMIT="600")

    assert told.startswith("The settings are not valid:\n")
    assert told.count("\n  - ") == 3


def test_refused_settings_show_no_values(environment: Environment) -> None:
    told = refusal(
        environment,
        WEBHOOK_SECRETS='{"shop": {"secret": "hunter2", "oops": "hunter3"}}',
        DATABASE_URL="my://hunter4@x",
        REDIS_URL="redis://:hunter5@x",
        REDIS_DB_BROKER="1",
        GOOGLE_LEAD_KEY="hunter6",
    )

    assert "hunter" not in told


def test_secrets_do_not_show_in_the_settings(environment: Environment) -> None:
    environment(
        FACEBOOK_APP_SECRET="hunter1-hunter1-hunter1",
        WEBHOOK_SECRETS='{"shop": "hunter2-hunter2-hunter2"}',
        REDIS_URL="rediss://:hunter3@x",
        DATABASE_URL="postgresql://u:hunter4@x/y?sslmode=require",
        OPENAI_API_KEY="hunter5",
        FLOWER_PASSWORD="hunter6-hunter6-hunter6",
    )
    settings = load_settings()

    assert "hunter" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_settings_are_frozen() -> None:
    settings = load_settings()
    changes: list[tuple[Any, str]] = [(settings, "tasks"), (settings.tasks, "max_retries")]
    for model, field in changes:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, field, None)


def test_the_env_file_is_read_and_the_environment_overrides_it(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("TASK_MAX_RETRIES=7\nTASK_RETRY_DELAY=5\n")
    monkeypatch.setattr(project, "reads_env_file", True)
    monkeypatch.setattr(project, "_chosen", tmp_path)
    environment(TASK_RETRY_DELAY="6")

    tasks = load_settings().tasks

    assert (tasks.max_retries, tasks.retry_delay) == (7, 6)


def test_relative_folders_start_at_the_project(environment: Environment) -> None:
    environment(DATA_DIR="elsewhere/data")

    assert load_settings().storage.folder == ROOT / "elsewhere" / "data"


def test_the_mapping_of_webhooks_is_the_shipped_one_or_a_file_in_the_project(environment: Environment) -> None:
    assert load_settings().webhooks.mapping_file == ROOT / "app" / "webhooks" / "mapping.yaml"

    environment(WEBHOOK_MAPPING="elsewhere/mapping.yaml")
    assert load_settings().webhooks.mapping_file == ROOT / "elsewhere" / "mapping.yaml"


def test_the_settings_of_a_process_are_read_once(environment: Environment) -> None:
    settings.settings.cache_clear()
    try:
        first = settings.settings()
        environment(TASK_MAX_RETRIES="9")
        assert settings.settings() is first
    finally:
        settings.settings.cache_clear()


def test_groups_can_be_built_in_code_with_their_field_names() -> None:
    webhooks = settings.WebhookSettings.model_validate({"facebook_app_secret": SecretStr("s")})

    assert webhooks.facebook_app_secret == SecretStr("s")


@pytest.mark.parametrize("port", ["abc", "0", "99999"])
def test_a_database_url_with_an_impossible_port_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:hidden@127.0.0.1:{port}/laneway")

    with pytest.raises(ConfigError) as refused:
        load_settings()

    assert "DATABASE_URL" in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_one_address_for_broker_and_results_is_refused(environment: Environment) -> None:
    one = f"redis://:{PASSWORD}@127.0.0.1:6379/3"

    assert "CELERY_RESULT_BACKEND" in refusal(environment, CELERY_BROKER_URL=one, CELERY_RESULT_BACKEND=one)


def test_a_key_that_would_leave_the_machine_without_tls_is_refused_unless_its_setting_is_named(
    environment: Environment,
) -> None:
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("REDIS_URL", "redis://:hunter5@db:6379", {}),
        ("REDIS_URL", "redis://db:6379", {"REDIS_PASSWORD": "hunter5-hunter5-hunter5"}),
        ("CELERY_BROKER_URL", "amqp://mq:hunter5@mq.internal//", {}),
        ("CELERY_RESULT_BACKEND", "redis://u:hunter5@10.0.0.5/1", {}),
        ("OPENAI_BASE_URL", "http://models.internal/v1", {"OPENAI_API_KEY": "hunter5", "OPENAI_MODEL": "m"}),
        ("CRM_BASE_URL", "http://crm.internal", {"CRM_TOKEN": "hunter5"}),
        ("STORAGE_ENDPOINT_URL", "http://s3.internal", STORAGE),
    ]
    for name, value, more in cases:
        told = refusal(environment, **{name: value}, **more)
        assert name in told and "without TLS" in told and "ALLOW_INSECURE" in told
        assert "hunter5" not in told
        environment(ALLOW_INSECURE=f"GOOGLE_LEAD_KEY, {name}")
        load_settings()
        environment(**dict.fromkeys((name, *more, "ALLOW_INSECURE"), ""))


def test_a_secret_that_can_be_guessed_is_refused_unless_its_setting_is_named(environment: Environment) -> None:
    for name, value in (
        ("GOOGLE_LEAD_KEY", "hunter-2-hunter"),
        ("FACEBOOK_APP_SECRET", "hunter2"),
        ("FACEBOOK_VERIFY_TOKEN", "hunter2"),
        ("FLOWER_PASSWORD", "hunter2"),
        ("REDIS_PASSWORD", "hunter2"),
        ("OUTBOUND_WEBHOOK_SECRET", "whsec_aHVudGVyMg=="),
        ("WEBHOOK_SECRETS", '{"shop": "hunter2"}'),
        ("WEBHOOK_SECRETS", '{"shop": {"secret": "0123456789abcdef", "previous": "hunter2"}}'),
    ):
        environment(OUTBOUND_WEBHOOK_URL="https://shop.example/hook" if name == "OUTBOUND_WEBHOOK_SECRET" else "")
        told = refusal(environment, **{name: value})
        assert name in told and "less than 16 bytes" in told and "hunter" not in told
        assert name in refusal(environment, ALLOW_INSECURE="OPENAI_API_KEY, DATA_DIR"), "others are named"
        environment(ALLOW_INSECURE=name.lower())
        load_settings()
        environment(**{name: "", "ALLOW_INSECURE": "", "OUTBOUND_WEBHOOK_URL": ""})
    environment(GOOGLE_LEAD_KEY="hunter-2-hunter-")

    load_settings()


def test_the_data_folder_is_closed_to_other_users_or_refused(environment: Environment, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    load_settings()
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    tmp_path.chmod(0o1777)
    assert "is open to every user" in refusal(environment)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777, "a folder for everybody, such as /tmp, is left alone"

    (tmp_path / "broker-password").unlink()
    (tmp_path / "notes.txt").touch()
    tmp_path.chmod(0o755)
    assert "is open to every user" in refusal(environment)
    assert tmp_path.stat().st_mode & 0o777 == 0o755, "a folder of other things is left alone"
    environment(ALLOW_INSECURE="DATA_DIR")
    load_settings()


def test_the_file_of_settings_is_closed_to_other_users(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "reads_env_file", True)
    monkeypatch.setattr(project, "_chosen", tmp_path)
    file = tmp_path / ".env"
    file.write_text("API_PORT=8123\n")
    for allowed, mode in (("ENV_FILE", 0o644), ("", 0o640)):
        file.chmod(0o644)
        environment(ALLOW_INSECURE=allowed)
        assert load_settings().api.port == 8123
        assert file.stat().st_mode & 0o777 == mode
