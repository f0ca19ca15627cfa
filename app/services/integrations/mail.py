"""E-mail through an SMTP server: one message to one recipient, and what the server's answer means.

Codes of 400 to 499, a time-out and no connection may pass; 500 and more are for good (RFC 5321, 4.2.1). Each message
goes over a connection of its own, so that what one recipient's server thinks is nobody else's matter.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final

from app.core.settings import MailSettings
from laneway.platform import clock
from laneway.platform.errors import NotConfigured, PermanentError, PlatformError, UpstreamError

SERVICE: Final = "The mail server"
Step = Callable[..., Any]
"""Does a named part of a task once: `PlatformTask.step`."""
LONGEST_SUBJECT, LONGEST_TEXT, LONGEST_SAID = 200, 20_000, 300
"""Characters."""


class MailRefused(PermanentError):
    """The mail server does not take this message, or does not let us in."""

    title = "Mail refused"

    template = "The mail server refused: {reason}"
    reason: str


class RecipientsRefused(PermanentError):
    """The mail server does not take mail for these."""

    title = "Recipients refused"

    refused: dict[str, str]

    def __str__(self) -> str:
        return "The mail server refused " + "; ".join(f"{to}: {reason}" for to, reason in self.refused.items())


@dataclass(frozen=True, slots=True)
class Email:
    """What is written to somebody. `id`: the same letter again has the same one, so that a repeat can be recognised."""

    id: str
    subject: str
    text: str


class Mail:
    """Sends letters. Safe to share among threads: it keeps no connection."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    @property
    def configured(self) -> bool:
        """Whether there is a mail server."""
        return self._settings.host is not None

    def send(self, letter: Email, *, to: str) -> None:
        """Hand a letter to the mail server.

        Raises NotConfigured, UpstreamError (to be tried again), MailRefused and RecipientsRefused (for good).
        """
        if not self._settings.host or not self._settings.sender:
            raise NotConfigured("E-mail", "SMTP_HOST")
        message = composed(letter, sender=self._settings.sender, to=to)
        with _named_errors(self._settings, to), self._connection(self._settings.host) as server:
            server.send_message(message, self._settings.sender, [to])

    @contextmanager
    def _connection(self, host: str) -> Generator[smtplib.SMTP]:
        own = self._settings
        tls = ssl.create_default_context() if own.tls or own.starttls else None
        server = (
            smtplib.SMTP_SSL(host, own.port, timeout=own.timeout, context=tls)
            if own.tls
            else smtplib.SMTP(host, own.port, timeout=own.timeout)
        )
        try:
            if own.starttls:
                server.starttls(context=tls)
            if own.user and own.password:
                server.login(own.user, own.password.get_secret_value())
            yield server
            _say_goodbye(server)
        finally:
            server.close()


def write_to_each(recipients: Sequence[str], write: Callable[[str], None], *, step: Step) -> list[str]:
    """Write to every recipient, each in a step of its own: who was written to is not written to again; to whom.

    Raises UpstreamError when some could not be written to now; RecipientsRefused, when all the others have their
    letters; MailRefused at once.
    """
    told: list[str] = []
    refused: dict[str, str] = {}
    later: PlatformError | None = None
    for to in recipients:
        try:
            step(f"mail {to}"[:155], write, to)
            told.append(to)
        except RecipientsRefused as error:
            refused |= error.refused
        except MailRefused:
            raise
        except PlatformError as error:
            later = later or error
    if later is not None:
        raise later
    if refused:
        raise RecipientsRefused(refused)
    return told


def composed(letter: Email, *, sender: str, to: str) -> EmailMessage:
    """The message; what came from strangers is one line in the subject, and no header."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = sender, to
    message["Subject"] = one_line(letter.subject)[:LONGEST_SUBJECT]
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = f"<{re.sub(r'[^A-Za-z0-9.-]+', '.', letter.id)}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_storable(letter.text)[:LONGEST_TEXT])
    return message


def one_line(text: str) -> str:
    """Without control characters and line breaks of any kind."""
    return " ".join(_storable(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)).split())


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # halves of surrogate pairs cannot be sent


def _domain(sender: str) -> str:
    domain = sender.rpartition("@")[2]
    return domain if domain.isascii() else "localhost"


def _say_goodbye(server: smtplib.SMTP) -> None:
    with suppress(smtplib.SMTPException, OSError):  # the message is accepted already
        server.quit()


@contextmanager
def _named_errors(settings: MailSettings, to: str) -> Generator[None]:
    """The library's errors as the platform's; none of them repeats the password."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()), (550, b""))
        raise _passing(code, said) or RecipientsRefused({to: _said(code, said)}) from None
    except smtplib.SMTPResponseException as error:
        raise _passing(error.smtp_code, error.smtp_error) or _refusal(error, to) from None
    except smtplib.SMTPNotSupportedError as error:
        if not to.isascii():
            raise RecipientsRefused({to: "the server takes ASCII addresses only"}) from None
        raise MailRefused(f"{error} (check SMTP_STARTTLS, SMTP_USER and MAIL_FROM)") from None
    except smtplib.SMTPServerDisconnected as error:
        late = isinstance(error.__context__, TimeoutError)
        raise UpstreamError(SERVICE, f"no answer within {settings.timeout:g} s" if late else "it hung up") from None
    except smtplib.SMTPException as error:
        raise MailRefused(str(error)[:LONGEST_SAID]) from None
    except ssl.SSLCertVerificationError as error:
        raise UpstreamError(SERVICE, f"its certificate cannot be trusted: {error.verify_message}") from None
    except TimeoutError:
        raise UpstreamError(SERVICE, f"no answer within {settings.timeout:g} s") from None
    except OSError as error:
        raise UpstreamError(SERVICE, f"it cannot be reached: {error.strerror or error}") from None


def _passing(code: int, said: bytes | str) -> PlatformError | None:
    """The error of a server that may be well again later; a code that is none is such a server's, too."""
    return None if 500 <= code <= 599 else UpstreamError(SERVICE, _said(code, said))


def _refusal(error: smtplib.SMTPResponseException, to: str) -> PlatformError:
    said = _said(error.smtp_code, error.smtp_error)
    if isinstance(error, smtplib.SMTPDataError):
        return RecipientsRefused({to: said})  # of this letter, for this recipient
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return MailRefused(f"{said}: check SMTP_USER and SMTP_PASSWORD")
    return MailRefused(said)


def _said(code: int, said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return f"{code} {one_line(text)}"[:LONGEST_SAID]
