"""Settings of alerts: thresholds, severities, the receivers of notices, reminders and quiet hours."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group
from laneway.platform.settings.plaintext import is_loopback
from laneway.platform.settings.quiet_hours import QuietHours

SeverityOrOff = Literal["low", "severe", "off"]
MAX_RECEIVERS: Final = 50
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_PLAIN: Final = ("http", "json", "xml", "form", "mailto", "mqtt", "xmpp", "rocket", "mmost")
"""Schemes of Apprise without TLS, for servers of one's own."""


class AlertSettings(Group):
    """Thresholds of alerts, and who is told about them."""

    receivers: Annotated[dict[str, SecretStr], NoDecode] = Field({}, alias="ALERT_RECEIVERS")
    """Who gets notices about alerts, as JSON: a name of your choice and an address of Apprise, such as `{"ops":
    "mailtos://user:password@mail.example.com?to=ops@example.com", "chat": "slack://…"}`. The addresses are secrets; the
    names are shown. It needs `laneway[alerts]`.
    """
    remind_hours: float = Field(4, alias="ALERT_REMIND_HOURS", ge=0, le=720)
    """Hours between two reminders of an alert that stays open. 0: no reminders."""
    quiet_hours: str | None = Field(None, alias="ALERT_QUIET_HOURS")
    """The time of day in which only severe alerts are told at once, such as `22:00-07:00`. The others are told
    together when it is over.
    """
    time_zone: str = Field("UTC", alias="ALERT_TIME_ZONE")
    """The time zone of the quiet hours, such as `Europe/Berlin`."""
    severities: Annotated[dict[str, SeverityOrOff], NoDecode] = Field({}, alias="ALERT_SEVERITIES")
    """Other severities of kinds of alerts, as JSON: `{"failures": "severe", "new_errors": "off"}`. `off`: the rule is
    not applied.
    """
    failures: int = Field(10, alias="ALERT_FAILURES_PER_HOUR", ge=1)
    """The number of failures of one task within an hour that opens an alert."""
    backlog: int = Field(1000, alias="ALERT_BACKLOG", ge=1)
    """The number of waiting tasks in one queue that opens an alert."""
    oldest_seconds: float = Field(3600, alias="ALERT_OLDEST_SECONDS", ge=1)
    """The seconds that the oldest due task of a queue may wait."""
    dead_letters: int = Field(10, alias="ALERT_DEAD_LETTERS_PER_HOUR", ge=1)
    """The number of new dead letters of one queue within an hour that opens an alert."""
    unread_events: int = Field(10_000, alias="ALERT_UNREAD_EVENTS", ge=1)
    """The number of events of one queue, not recorded in the database yet, that opens an alert."""
    outbox_seconds: float = Field(120, alias="ALERT_OUTBOX_SECONDS", ge=10)
    """The seconds that an accepted task may wait to be sent to the broker."""
    broker_memory: float = Field(75, alias="ALERT_BROKER_MEMORY_PERCENT", gt=0, le=100)
    """The percentage of the broker's memory in use that opens an alert. At 80 % the API accepts no tasks."""
    disk_free: float = Field(10, alias="ALERT_DISK_FREE_PERCENT", ge=0, lt=100)
    """The percentage of free space on the disk of `DATA_DIR` below which an alert opens."""

    late_canary: float = Field(300, alias="ALERT_CANARY_SECONDS", ge=10)
    """The seconds that the canary of a queue may take, from its submission to its end (`CANARY_SECONDS`)."""

    @field_validator("receivers", "severities", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        """Read the object. No error repeats its text, which has secrets in it."""
        if not isinstance(value, str):
            return value
        try:
            read: object = json.loads(value)
        except ValueError as error:
            place = f" (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
            raise ValueError(f'must be JSON such as {{"name": "value"}}{place}') from None
        if not isinstance(read, dict) or not all(
            isinstance(each, str) for each in cast("dict[Any, Any]", read).values()
        ):
            raise ValueError('must be a JSON object with texts, such as {"name": "value"}')
        return cast("dict[str, str]", read)

    @model_validator(mode="after")
    def _usable_receivers(self) -> AlertSettings:
        if len(self.receivers) > MAX_RECEIVERS:
            raise ValueError(f"ALERT_RECEIVERS has more than {MAX_RECEIVERS} receivers")
        for name, address in self.receivers.items():
            if not _NAME.fullmatch(name):
                raise ValueError(
                    "ALERT_RECEIVERS: a name has at most 40 letters, digits and _.- ; it is shown, no secret"
                )
            if not re.match(r"[a-z0-9]+://.", address.get_secret_value(), re.IGNORECASE):
                raise ValueError(
                    f"ALERT_RECEIVERS: {name!r} needs an address of Apprise, such as slack://… or mailtos://…"
                )
        if self.receivers and find_spec("apprise") is None:
            raise ValueError("ALERT_RECEIVERS needs the extra: pip install 'laneway[alerts]'")
        return self

    @model_validator(mode="after")
    def _usable_quiet_hours(self) -> AlertSettings:
        try:
            ZoneInfo(self.time_zone)
        except (ValueError, OSError, KeyError):  # an unknown name is a KeyError
            raise ValueError(f"ALERT_TIME_ZONE: there is no time zone {self.time_zone!r}") from None
        try:
            _ = self.quiet
        except ValueError as error:
            raise ValueError(f"ALERT_QUIET_HOURS {error}") from None
        return self

    @property
    def quiet(self) -> QuietHours | None:
        """The quiet hours; None: there are none. Raises ValueError."""
        return QuietHours.parse(self.quiet_hours, ZoneInfo(self.time_zone)) if self.quiet_hours else None

    def exposed(self) -> dict[str, str]:
        found = (_exposed_host(address.get_secret_value()) for address in self.receivers.values())
        host = next(filter(None, found), None)
        return {"ALERT_RECEIVERS": host} if host else {}


def _exposed_host(address: str) -> str | None:
    """The other machine that gets the password of this address without TLS; None if there is none."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:  # Apprise has more forms; the test of the receivers says whether it knows this one
        return None
    has_password = bool(parts.password) or "pass=" in parts.query
    return host if parts.scheme.lower() in _PLAIN and has_password and host and not is_loopback(host) else None
