"""Destinations: who may receive outbound webhooks. Each has a secret of its own.

Nothing is sent to an address that no destination covers, so a caller who chooses an address can neither have data
signed for a receiver of its own choice, nor make the platform call a service that nobody registered. What is signed for
one destination is not valid at another.

The receiver in `OUTBOUND_WEBHOOK_URL` is a destination, too; its secret is `OUTBOUND_WEBHOOK_SECRET`.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx2
from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import OutboundDestination
from laneway.platform.db.queries import outbound_destinations as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PermanentError, PlatformError
from laneway.platform.logging import logger
from laneway.platform.settings import OutboundSettings
from laneway.platform.settings.signing_key import STANDARD_PREFIX, signing_key
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.secret_box import SecretBox
from laneway.schemas.outbound_destination import DESTINATION_NAME, MAX_DESTINATION_URL

log = logger(__name__)

MAX_DESTINATIONS: Final = 10_000
MAX_DEPTH: Final = 64
"""Folders of an address above which a destination can be."""
SECRET_BYTES: Final = 32
_UNSAFE_PATH: Final = re.compile(r"//|\\|%2f|%5c|(?:/|%2f)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
"""An empty, an encoded or a relative folder in a path."""


class UnknownDestination(PermanentError):
    """No destination covers the address."""

    title = "Unknown destination"

    template = "No destination covers {url}: register it with `laneway callbacks register NAME URL`."
    url: str


class BadDestination(PermanentError):
    """The destination cannot be registered."""

    title = "Bad destination"

    template = "The destination {name!r} cannot be registered: {reason}."
    name: str
    reason: str


class DestinationExists(PlatformError):
    """The name or the address of a new destination is in use."""

    status, title = 409, "Destination exists"

    template = "A destination named {name!r}, or with the address {url}, exists: rotate its secret, or remove it first."
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A destination and its new secret, which is shown this once."""

    destination: OutboundDestination
    secret: str


class Destinations:
    """Registers destinations, changes their secrets, and finds the keys that sign for an address."""

    def __init__(self, database: Database, settings: OutboundSettings, box: SecretBox) -> None:
        self._database, self._settings, self._box = database, settings, box

    def register(self, name: str, url: str) -> NewSecret:
        """Add a destination with a new secret. Raises BadDestination, ForbiddenAddress and DestinationExists."""
        address, now = self._checked_url(name, url), clock.now()
        secret = _new_secret()
        destination = OutboundDestination(
            name=name, url=address, secret=self._box.seal(secret, name=name), created_at=now
        )
        try:
            with self._database.transaction() as session:
                if repository.count(session) >= MAX_DESTINATIONS:
                    raise BadDestination(name, f"there are {MAX_DESTINATIONS} already")
                session.add(destination)
                session.flush()
                record(session, "destination.register", ("destination", name), after={"url": address})
        except IntegrityError:
            raise DestinationExists(name, address) from None
        log.info("destination registered", destination=name, url=address)
        return NewSecret(destination, secret)

    def rotate(self, name: str, *, overlap: timedelta) -> NewSecret:
        """Give a destination a new secret. For `overlap` the present one signs as well; an older one no more.

        Raises NotFound.
        """
        secret, now = _new_secret(), clock.now()
        with self._database.transaction() as session:
            destination = _find(session, name, lock=True)
            keeps = overlap > timedelta(0)
            destination.previous_secret = destination.secret if keeps else None
            destination.previous_until = now + overlap if keeps else None
            destination.secret, destination.rotated_at = self._box.seal(secret, name=name), now
            until = {"previous_until": destination.previous_until}
            record(session, "destination.rotate", ("destination", name), after=until)
        log.info("secret of a destination rotated", destination=name, previous_until=destination.previous_until)
        return NewSecret(destination, secret)

    def remove(self, name: str) -> None:
        """Delete a destination with its secrets: nothing is sent to it any more. Raises NotFound."""
        with self._database.transaction() as session:
            destination = _find(session, name, lock=True)
            session.delete(destination)
            session.flush()
            record(session, "destination.remove", ("destination", name), before={"url": destination.url})
        log.info("destination removed", destination=name)

    def show(self, name: str) -> OutboundDestination:
        """Return one destination. Raises NotFound."""
        with self._database.reading() as session:
            return _find(session, name)

    def page(self, *, after: str = "", limit: int = 50) -> Sequence[OutboundDestination]:
        """Return destinations by name. `after`: the last name of the previous page."""
        with self._database.reading() as session:
            return repository.page(session, after=after, limit=limit)

    def reencrypt(self) -> int:
        """Encrypt every secret with the present key, and return the number of destinations. Raises SecretUnreadable.

        Secrets whose overlap is over are deleted.
        """
        now = clock.now()
        with self._database.transaction() as session:
            destinations = repository.every(session)
            for each in destinations:
                each.secret = self._box.seal(self._box.open(each.secret, name=each.name), name=each.name)
                previous = _previous(each, now=now)
                each.previous_secret = previous and self._box.seal(
                    self._box.open(previous, name=each.name), name=each.name
                )
            session.flush()
            record(session, "destination.reencrypt", ("destination", "all"), after={"destinations": len(destinations)})
        return len(destinations)

    def require(self, url: str) -> None:
        """Raise UnknownDestination or ForbiddenAddress unless webhooks may be sent to this address."""
        if not self._is_own(address := _address(url)):
            self._covering(address)

    def keys(self, url: str) -> list[bytes]:
        """Return the keys that sign for this address, the current one first.

        Raises UnknownDestination, ForbiddenAddress and SecretUnreadable.
        """
        if self._is_own(address := _address(url)):
            return self._settings.signing_keys
        destination = self._covering(address)
        sealed = [destination.secret, _previous(destination, now=clock.now())]
        opened = [self._box.open(each, name=destination.name) for each in sealed if each]
        return [signing_key(SecretStr(each), setting=destination.name) for each in opened]

    def _is_own(self, address: str) -> bool:
        """Whether this is the address of the settings."""
        return bool(self._settings.url) and egress.endpoint_url(self._settings.url or "") == address

    def _covering(self, address: str) -> OutboundDestination:
        with self._database.reading() as session:
            found = repository.with_longest_url(session, covering_urls(address))
        if found is None:
            raise UnknownDestination(egress.display_url(address))
        return found

    def _checked_url(self, name: str, url: str) -> str:
        if not re.fullmatch(DESTINATION_NAME, name):
            raise BadDestination(name[:100], "a name has 1 to 63 letters, digits, dots, hyphens and underscores")
        address = egress.endpoint_url(url)
        if "?" in url or "#" in url:
            raise BadDestination(name, "its address must have no query and no fragment: it covers every query")
        if len(address) > MAX_DESTINATION_URL:
            raise BadDestination(name, f"its address has more than {MAX_DESTINATION_URL} characters")
        if _has_unsafe_path(url):
            raise BadDestination(name, "the path of its address has an empty, relative or encoded folder")
        if self._is_own(address):
            raise BadDestination(name, "OUTBOUND_WEBHOOK_URL is a destination of its own")
        return address


def covering_urls(address: str) -> list[str]:
    """The addresses of destinations that cover this one: the address itself, and the folders above it.

    `address` is what `endpoint_url` returns: its path is not empty.
    """
    path = address[address.index("/", address.index("://") + 3) :]
    origin = address.removesuffix(path)
    folders = [index + 1 for index, character in enumerate(path) if character == "/"][:MAX_DEPTH]
    return [address, *(origin + path[:end] for end in folders)]


def _address(url: str) -> str:
    """The address to find a destination for. Raises ForbiddenAddress, and UnknownDestination for an unsafe path."""
    address = egress.endpoint_url(url)
    if _has_unsafe_path(url):
        raise UnknownDestination(egress.display_url(url))
    return address


def _has_unsafe_path(url: str) -> bool:
    """Whether the path, as it is sent, has a spelling that a receiver may understand as a path elsewhere.

    `endpoint_url` would resolve it; a receiver may not.
    """
    return bool(_UNSAFE_PATH.search(httpx2.URL(url).raw_path.decode("ascii").partition("?")[0]))


def _previous(destination: OutboundDestination, *, now: datetime) -> str | None:
    """The secret before the present one, encrypted, while it signs as well."""
    until = destination.previous_until
    return destination.previous_secret if until is not None and until > now else None


def _new_secret() -> str:
    return STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _find(session: Session, name: str, *, lock: bool = False) -> OutboundDestination:
    found = repository.find(session, name, lock=lock) if "\x00" not in name else None
    if found is None:
        raise NotFound("destination", name)
    return found
