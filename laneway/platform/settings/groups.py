"""The platform's groups of settings: broker, tasks, storage, API, outbound webhooks, operation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from laneway.platform.payload_store import PayloadStore, use_store
from laneway.platform.queues import LANE_WEIGHTS, Lane
from laneway.platform.sealing import Sealer, use_for_all
from laneway.platform.settings.base import Group, Port, absolute, secret_bytes
from laneway.platform.settings.plaintext import database_gets_password, is_loopback, sends_password_to
from laneway.platform.settings.signing_key import signing_key
from laneway.platform.settings.stored_secret import stored_secret

LANE_WEIGHTS_PATTERN = r"^(high|medium|low)=([1-9]\d?|100)(,(high|medium|low)=([1-9]\d?|100)){0,2}$"
BROKER_PASSWORD = "broker-password"  # noqa: S105 - the name of a file
"""The file in `DATA_DIR` with the password of the embedded Valkey."""


class RedisSettings(Group):
    """The addresses of the broker and the result store."""

    host: str = Field("127.0.0.1", alias="REDIS_HOST")
    """The host of Redis or Valkey. Without a URL, `laneway up` starts an embedded Valkey there; it must then be
    loopback.
    """
    port: Port = Field(6379, alias="REDIS_PORT")
    """Its port."""
    db_broker: int = Field(0, alias="REDIS_DB_BROKER", ge=0)
    """The number of the database with the queues."""
    db_backend: int = Field(1, alias="REDIS_DB_BACKEND", ge=0)
    """The number of the database with the results. It must not be that of the queues."""
    url: SecretStr | None = Field(None, alias="REDIS_URL")
    """A server to use instead of the embedded one: `redis://[[user]:password@]host:port`, or `rediss://` for TLS."""
    configured_password: SecretStr | None = Field(None, alias="REDIS_PASSWORD")
    """The password of the server at `REDIS_URL` or `REDIS_HOST`, if the address has none. Default for the embedded
    server: a generated one, in `DATA_DIR/broker-password`.
    """
    celery_broker_url: SecretStr | None = Field(None, alias="CELERY_BROKER_URL")
    """Celery's address of the broker, with its database, if it is not at `REDIS_URL`."""
    celery_result_backend: SecretStr | None = Field(None, alias="CELERY_RESULT_BACKEND")
    """Celery's address of the result store, with its database, if it is not at `REDIS_URL`."""
    transport: Literal["laneway", "celery"] = Field("laneway", alias="BROKER_TRANSPORT")
    """The transport for `redis://` addresses: `laneway` (the delivery engine) or `celery` (kombu's own, with fewer
    features).
    """

    _folder: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _two_databases(self) -> RedisSettings:
        if self.db_broker == self.db_backend:
            raise ValueError("REDIS_DB_BROKER and REDIS_DB_BACKEND must differ: results would mix with queues")
        if self.url and not self.url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError(
                "REDIS_URL must start with redis:// or rediss://; "
                "for another transport set CELERY_BROKER_URL and CELERY_RESULT_BACKEND"
            )
        if self.broker_url == self.result_url:
            raise ValueError("CELERY_BROKER_URL and CELERY_RESULT_BACKEND must differ: results would mix with queues")
        return self

    def own_secrets(self) -> dict[str, bytes]:
        return secret_bytes(REDIS_PASSWORD=self.configured_password)

    def exposed(self) -> dict[str, str]:
        server = "REDIS_URL" if self.url else "REDIS_HOST"
        addresses = (
            ("CELERY_BROKER_URL" if self.celery_broker_url else server, self.broker_url),
            ("CELERY_RESULT_BACKEND" if self.celery_result_backend else server, self.result_url),
        )
        return {setting: host for setting, url in addresses if (host := sends_password_to(url))}

    @property
    def broker_url(self) -> str:
        """`CELERY_BROKER_URL`, or `REDIS_URL` (or host and port) with the broker's database."""
        return self.celery_broker_url.get_secret_value() if self.celery_broker_url else self._at(self.db_broker)

    @property
    def result_url(self) -> str:
        """`CELERY_RESULT_BACKEND`, or `REDIS_URL` (or host and port) with the result database."""
        given = self.celery_result_backend
        return given.get_secret_value() if given else self._at(self.db_backend)

    @property
    def on_engine(self) -> bool:
        """True when the delivery engine is the broker: on Redis and Valkey, unless BROKER_TRANSPORT is `celery`."""
        return self.transport == "laneway" and _is_redis(self.broker_url)

    @property
    def external(self) -> bool:
        """True when the settings name a server; `laneway up` then starts none."""
        return bool(self.url or self.celery_broker_url)

    @property
    def password(self) -> str | None:
        """`REDIS_PASSWORD`; without it that of the embedded server, which is generated at its first use, else None.

        Raises ConfigError if its file cannot be read or made.
        """
        if self.configured_password is not None:
            return self.configured_password.get_secret_value()
        if self._folder is None or self.url or not is_loopback(self.host):
            return None
        return stored_secret(self._folder / BROKER_PASSWORD, instead="REDIS_URL")

    def keep_password_in(self, folder: Path) -> None:
        """Set the folder of the file with the password of the embedded server."""
        self._folder = folder

    def _at(self, database: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        parts = urlsplit(self.url.get_secret_value() if self.url else f"redis://{host}:{self.port}")
        password = None if "@" in parts.netloc else self.password
        login = f":{quote(password, safe='')}@" if password else ""
        return urlunsplit((parts.scheme, login + parts.netloc, f"/{database}", parts.query, ""))


class TaskSettings(Group):
    """Limits of tasks: time, retries, queue sizes, history. Times are in seconds unless the name says otherwise."""

    task_serializer: Literal["json"] = Field("json", alias="CELERY_TASK_SERIALIZER")
    """The format of messages."""
    result_serializer: Literal["json"] = Field("json", alias="CELERY_RESULT_SERIALIZER")
    """The format of results."""
    soft_time_limit: int = Field(300, alias="TASK_SOFT_TIME_LIMIT", ge=1)
    """Seconds after which an error is raised in a running task."""
    time_limit: int = Field(600, alias="TASK_TIME_LIMIT", ge=1)
    """Seconds after which the process of a running task is killed."""
    max_retries: int = Field(3, alias="TASK_MAX_RETRIES", ge=0, le=100)
    """The number of retries of a failed task that declares none."""
    retry_delay: float = Field(60, alias="TASK_RETRY_DELAY", ge=0, le=86_400)
    """The longest wait before the first retry, in seconds. It doubles with each attempt."""
    retry_delay_max: float = Field(3600, alias="TASK_RETRY_DELAY_MAX", ge=0, le=86_400)
    """The longest wait before any retry, in seconds."""
    max_queue_size: int = Field(10_000, alias="MAX_QUEUE_SIZE", ge=1)
    """The most waiting tasks of a queue. When it is full, the API answers 429."""
    max_dead_letters: int = Field(10_000, alias="MAX_DEAD_LETTERS", ge=1)
    """The most dead letters. When there are more, the oldest are deleted."""
    max_unread_events: int = Field(100_000, alias="MAX_UNREAD_EVENTS", ge=100)
    """The most events of a queue that the database has not recorded yet. Above it the queue accepts no tasks (503)."""
    cancel_grace: float = Field(2, alias="TASK_CANCEL_GRACE_SECONDS", ge=0, le=600)
    """Seconds that a cancelled task has to stop by itself. Then it is interrupted."""
    status_expiry_hours: int = Field(24, alias="TASK_STATUS_EXPIRY_HOURS", ge=1)
    """Hours for which the status and the result of a finished task are available."""
    hand_on_seconds: float = Field(3600, alias="TASK_HAND_ON_SECONDS", ge=0, le=2_592_000)
    """Seconds for which workers hand on a task that they do not know. Then it is a dead letter."""
    lease_seconds: float = Field(15, alias="TASK_LEASE_SECONDS", ge=3, le=300)
    """Seconds after which other workers take over the tasks of a silent worker."""
    lanes: Literal["weighted", "strict"] = Field("weighted", alias="LANE_ORDER")
    """`weighted`: the lanes share a worker by `LANE_WEIGHTS`. `strict`: a lane waits while a higher one has work.
    That is sure in workers of at most 16 queues.
    """
    lane_weights: str = Field("high=6,medium=3,low=1", alias="LANE_WEIGHTS", pattern=LANE_WEIGHTS_PATTERN)
    """The share of each lane in a worker that has work of all of them: numbers from 1 to 100."""
    labels: str = Field("", alias="WORKER_LABELS")
    """What the workers of this machine have, separated by commas, such as `gpu,eu`: a task that needs a label waits for
    a worker that has it. `laneway worker --label gpu` sets it for one worker.
    """
    encryption: Literal["declared", "all"] = Field("declared", alias="TASK_ENCRYPTION")
    """`declared`: the payloads, results and steps of the tasks that are declared with `encrypted=True` are encrypted in
    the database and in the broker. `all`: those of every task, the inputs and outputs of workflows, and the bodies
    of outbound webhooks. It needs `KEY_RING_FILE`.
    """

    payload_storage: str | None = Field(None, alias="PAYLOAD_STORAGE")
    """Where payloads above `PAYLOAD_STORED_ABOVE` are stored, with a reference in the row and the message:
    `file:///path` (a folder that all machines share) or `s3://bucket/folder` (needs `laneway[storage]`; its keys are
    those of the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL). Default: all payloads are in the message.
    """
    payload_stored_above: int = Field(65_536, alias="PAYLOAD_STORED_ABOVE", ge=1024)
    """Bytes of a payload up to which it is in the message."""

    _payload_store: PayloadStore = PrivateAttr(default_factory=PayloadStore)
    _sealer: Sealer = PrivateAttr(default_factory=Sealer)

    def seal_with(self, ring: Path | None) -> None:
        """Encrypt with the keys of this ring. None: what must be encrypted is refused."""
        self._sealer = Sealer(ring, everything=self.encryption == "all")
        use_for_all(self._sealer)

    def store_payloads(self) -> None:
        """Store large payloads at the address of the settings."""
        self._payload_store = PayloadStore(self.payload_storage, above=self.payload_stored_above)
        use_store(self._payload_store)

    @property
    def weights_of_lanes(self) -> dict[Lane, int]:
        """`LANE_WEIGHTS` by lane."""
        pairs = (pair.split("=") for pair in self.lane_weights.split(","))
        return LANE_WEIGHTS | {Lane(name): int(weight) for name, weight in pairs}

    @property
    def worker_labels(self) -> tuple[str, ...]:
        """`WORKER_LABELS`, one by one."""
        return tuple(label.strip() for label in self.labels.split(",") if label.strip())

    @property
    def payload_store(self) -> PayloadStore:
        """Stores large payloads."""
        return self._payload_store

    @property
    def sealer(self) -> Sealer:
        """Encrypts what must be encrypted."""
        return self._sealer

    @model_validator(mode="after")
    def _limits_in_order(self) -> TaskSettings:
        if self.soft_time_limit >= self.time_limit:
            raise ValueError("TASK_SOFT_TIME_LIMIT must be smaller than TASK_TIME_LIMIT")
        if self.retry_delay > self.retry_delay_max:
            raise ValueError("TASK_RETRY_DELAY must not be larger than TASK_RETRY_DELAY_MAX")
        if self.payload_storage is not None and not all(self.payload_storage.partition("://")):
            raise ValueError("PAYLOAD_STORAGE must be an address such as file:///srv/payloads or s3://bucket/folder")
        return self


class StorageSettings(Group):
    """Where data is stored, and how many days it is kept."""

    data_dir: Path = Field(Path("data"), alias="DATA_DIR")
    """The folder of the embedded Valkey, the SQLite file and the generated passwords; relative to the project's
    folder.
    """
    database_url: SecretStr | None = Field(None, alias="DATABASE_URL")
    """`sqlite:///path` or `postgresql://user:password@host:port/database`. Default: the file `laneway.db` in
    `DATA_DIR`.
    """
    keep_tasks: int = Field(30, alias="RETENTION_DAYS_TASKS", ge=1)
    """Days for which finished tasks are kept."""
    keep_webhooks: int = Field(30, alias="RETENTION_DAYS_WEBHOOKS", ge=1)
    """Days for which webhook requests and deliveries are kept."""

    @property
    def folder(self) -> Path:
        """`DATA_DIR`, absolute."""
        return absolute(self.data_dir)

    @property
    def url(self) -> str:
        """The SQLAlchemy address: `DATABASE_URL`, or a SQLite file in `DATA_DIR`."""
        if self.database_url is None:
            return f"sqlite:///{self.folder / 'laneway.db'}"
        return _with_driver(self.database_url.get_secret_value())

    def exposed(self) -> dict[str, str]:
        host = database_gets_password(self.url)
        return {"DATABASE_URL": host} if host else {}

    @model_validator(mode="after")
    def _known_database(self) -> StorageSettings:
        if self.url.partition(":")[0] not in {"sqlite", "postgresql+psycopg"}:
            raise ValueError("DATABASE_URL must start with sqlite:/// or postgresql://")
        if not _has_valid_port(self.url):
            raise ValueError("DATABASE_URL must have a number from 1 to 65535 for its port, or none")
        return self


class ApiSettings(Group):
    """Addresses and limits of the API and Flower."""

    host: str = Field("127.0.0.1", alias="API_HOST")
    """The address of the API. Another one than loopback needs authentication: see `AUTHENTICATION`."""
    port: Port = Field(8000, alias="API_PORT")
    """The port of the API."""
    max_body_bytes: int = Field(4_194_304, alias="MAX_BODY_BYTES", ge=1024)
    """The largest body of a request, in bytes. A task's payload is always limited to 1,048,576 bytes."""
    flower_host: str = Field("127.0.0.1", alias="FLOWER_HOST")
    """The address of Flower."""
    flower_port: Port = Field(5555, alias="FLOWER_PORT")
    """The port of Flower."""
    flower_user: str = Field("laneway", alias="FLOWER_USER", pattern=r"^[^:\s]+$")
    """The user of Flower's login."""
    flower_password: SecretStr | None = Field(None, alias="FLOWER_PASSWORD")
    """The password of Flower's login. Default: a generated one, in `DATA_DIR/flower-password`."""

    def own_secrets(self) -> dict[str, bytes]:
        return secret_bytes(FLOWER_PASSWORD=self.flower_password)

    @model_validator(mode="after")
    def _two_ports(self) -> ApiSettings:
        if self.port == self.flower_port:
            raise ValueError("API_PORT and FLOWER_PORT must differ")
        return self


class OutboundSettings(Group):
    """Outbound webhooks: the receiver of this platform's events, the signing keys, and the limits of a POST."""

    url: str | None = Field(None, alias="OUTBOUND_WEBHOOK_URL")
    """The receiver of this platform's events."""
    secret: SecretStr | None = Field(None, alias="OUTBOUND_WEBHOOK_SECRET")
    """The secret that signs what is sent to `OUTBOUND_WEBHOOK_URL`. Every other receiver is a registered destination
    with a secret of its own.
    """
    secret_previous: SecretStr | None = Field(None, alias="OUTBOUND_WEBHOOK_SECRET_PREVIOUS")
    """The secret before this one. It signs as well, while the receiver changes to the new one."""
    timeout: float = Field(15, alias="OUTBOUND_TIMEOUT_SECONDS", gt=0, le=60)
    """Seconds that a receiver has to respond."""
    allow_private: bool = Field(False, alias="OUTBOUND_ALLOW_PRIVATE")
    """Whether receivers may have a private or a loopback address."""
    allow_loopback: bool = Field(False, alias="OUTBOUND_ALLOW_LOOPBACK")
    """Whether receivers may have a loopback address."""
    disable_after_days: float = Field(5, alias="OUTBOUND_DISABLE_AFTER_DAYS", gt=0, le=365)
    """Days of failures only after which a receiver is disabled."""
    max_in_flight: int | None = Field(None, alias="OUTBOUND_MAX_IN_FLIGHT", ge=1, le=256)
    """The most concurrent deliveries to one receiver. Default: `WORKER_CONCURRENCY` - 1, at least 1."""

    @model_validator(mode="after")
    def _signed(self) -> OutboundSettings:
        if self.url and not self.secret:
            raise ValueError("OUTBOUND_WEBHOOK_URL needs OUTBOUND_WEBHOOK_SECRET: outbound webhooks are always signed")
        if self.secret and not self.url:
            raise ValueError(
                "OUTBOUND_WEBHOOK_SECRET needs OUTBOUND_WEBHOOK_URL: it signs for that receiver only; "
                "register others with `laneway callbacks register`"
            )
        if self.secret_previous and not self.secret:
            raise ValueError("OUTBOUND_WEBHOOK_SECRET_PREVIOUS needs OUTBOUND_WEBHOOK_SECRET, the one that replaces it")
        _ = self.signing_keys
        return self

    def own_secrets(self) -> dict[str, bytes]:
        names = ("OUTBOUND_WEBHOOK_SECRET", "OUTBOUND_WEBHOOK_SECRET_PREVIOUS")
        return dict(zip(names, self.signing_keys, strict=False))

    @property
    def signing_keys(self) -> list[bytes]:
        """The keys that sign what is sent to `url`, the current one first; empty without a secret."""
        secrets = {"OUTBOUND_WEBHOOK_SECRET": self.secret, "OUTBOUND_WEBHOOK_SECRET_PREVIOUS": self.secret_previous}
        return [signing_key(secret, setting=setting) for setting, secret in secrets.items() if secret is not None]


class OperationSettings(Group):
    """Logs, and the concurrency of workers."""

    environment: Literal["development", "production"] = Field("development", alias="ENVIRONMENT")
    """Where the platform runs. In `production` logs are JSON."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="LOG_LEVEL")
    """The least level of log lines that are written."""
    log_format: Literal["auto", "json", "console"] = Field("auto", alias="LOG_FORMAT")
    """The form of log lines; `auto` is JSON in production, else for a console."""
    worker_concurrency: int = Field(2, alias="WORKER_CONCURRENCY", ge=1, le=256)
    """The number of pool processes of a worker whose group declares none."""

    @property
    def is_production(self) -> bool:
        """Whether this is no development machine."""
        return self.environment == "production"


def _is_redis(url: str) -> bool:
    return urlsplit(url).scheme in {"redis", "rediss", "unix", "socket", "sentinel"}


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _with_driver(url: str) -> str:
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url
