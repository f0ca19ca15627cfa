"""E-mail through an SMTP server: one message to one recipient, and errors for the server's replies.

Replies of 400 to 499, a time-out and no connection are retryable; replies of 500 and more are permanent (RFC 5321,
4.2.1). Each message has its own connection, so that a refused recipient does not affect the others.
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
RunStep = Callable[..., Any]
"""Runs a named part of a task once, as `Context.step` does."""
MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH, MAX_REPLY_LENGTH = 200, 20_000, 300
"""Characters of a subject, of a text, and of a server's reply in an error."""


class MailRefused(PermanentError):
    """The mail server refuses the message, the sender or the login."""

    title = "Mail refused"

    template = "The mail server refused: {reason}"
    reason: str


class RecipientsRefused(PermanentError):
    """The mail server refuses these recipients; `refused` has the reason for each."""

    title = "Recipients refused"

    refused: dict[str, str]

    def __str__(self) -> str:
        return "The mail server refused " + "; ".join(f"{to}: {reason}" for to, reason in self.refused.items())


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail. A repeat has the same `id`, so that the recipient can recognise it."""

    id: str
    subject: str
    text: str


class Mail:
    """Sends e-mails. It keeps no connection, so threads may share it."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    def send(self, email: Email, *, to: str) -> None:
        """Hand an e-mail to the mail server.

        Raises UpstreamError (retryable), NotConfigured, MailRefused and RecipientsRefused (permanent).
        """
        if not self._settings.host or not self._settings.sender:
            raise NotConfigured("E-mail", "SMTP_HOST")
        message = mime_message(email, sender=self._settings.sender, to=to)
        with _translate_errors(self._settings, to), self._connection(self._settings.host) as server:
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
            _quit(server)
        finally:
            server.close()


def send_to_each(recipients: Sequence[str], send: Callable[[str], None], *, step: RunStep) -> list[str]:
    """Send to every recipient in its own step, so that a repeat skips those already sent; returns the recipients.

    Raises UpstreamError if some e-mails must be retried, RecipientsRefused if all others were sent, and MailRefused at
    once.
    """
    sent_to: list[str] = []
    refused: dict[str, str] = {}
    retryable: PlatformError | None = None
    for to in recipients:
        try:
            step(f"mail {to}"[:155], send, to)
            sent_to.append(to)
        except RecipientsRefused as error:
            refused |= error.refused
        except MailRefused:
            raise
        except PlatformError as error:
            retryable = retryable or error
    if retryable is not None:
        raise retryable
    if refused:
        raise RecipientsRefused(refused)
    return sent_to


def mime_message(email: Email, *, sender: str, to: str) -> EmailMessage:
    """The MIME message. Text from outside is reduced to one line in the subject and never becomes a header."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = sender, to
    message["Subject"] = one_line(email.subject)[:MAX_SUBJECT_LENGTH]
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = f"<{re.sub(r'[^A-Za-z0-9.-]+', '.', email.id)}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_encodable(email.text)[:MAX_TEXT_LENGTH])
    return message


def one_line(text: str) -> str:
    """The text in one line, without control characters and line breaks of any kind."""
    return " ".join(_encodable(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)).split())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # Lone surrogates cannot be sent.


def _domain(sender: str) -> str:
    domain = sender.rpartition("@")[2]
    return domain if domain.isascii() else "localhost"


def _quit(server: smtplib.SMTP) -> None:
    with suppress(smtplib.SMTPException, OSError):  # The message is accepted already.
        server.quit()


@contextmanager
def _translate_errors(settings: MailSettings, to: str) -> Generator[None]:
    """Turn smtplib's errors into the platform's; none of them has the password in it."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, reply = next(iter(error.recipients.values()), (550, b""))
        raise _retryable_error(code, reply) or RecipientsRefused({to: _reply_text(code, reply)}) from None
    except smtplib.SMTPResponseException as error:
        raise _retryable_error(error.smtp_code, error.smtp_error) or _permanent_error(error, to) from None
    except smtplib.SMTPNotSupportedError as error:
        if not to.isascii():
            raise RecipientsRefused({to: "the server accepts ASCII addresses only"}) from None
        raise MailRefused(f"{error} (check SMTP_STARTTLS, SMTP_USER and MAIL_FROM)") from None
    except smtplib.SMTPServerDisconnected as error:
        timed_out = isinstance(error.__context__, TimeoutError)
        reason = f"no answer within {settings.timeout:g} s" if timed_out else "it closed the connection"
        raise UpstreamError(SERVICE, reason) from None
    except smtplib.SMTPException as error:
        raise MailRefused(str(error)[:MAX_REPLY_LENGTH]) from None
    except ssl.SSLCertVerificationError as error:
        raise UpstreamError(SERVICE, f"its certificate cannot be trusted: {error.verify_message}") from None
    except TimeoutError:
        raise UpstreamError(SERVICE, f"no answer within {settings.timeout:g} s") from None
    except OSError as error:
        raise UpstreamError(SERVICE, f"it cannot be reached: {error.strerror or error}") from None


def _retryable_error(code: int, reply: bytes | str) -> PlatformError | None:
    """The retryable error for any reply but 500 to 599; an invalid code comes from a server that may recover."""
    return None if 500 <= code <= 599 else UpstreamError(SERVICE, _reply_text(code, reply))


def _permanent_error(error: smtplib.SMTPResponseException, to: str) -> PlatformError:
    reply = _reply_text(error.smtp_code, error.smtp_error)
    if isinstance(error, smtplib.SMTPDataError):
        return RecipientsRefused({to: reply})  # The server refuses this e-mail to this recipient.
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return MailRefused(f"{reply}: check SMTP_USER and SMTP_PASSWORD")
    return MailRefused(reply)


def _reply_text(code: int, reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return f"{code} {one_line(text)}"[:MAX_REPLY_LENGTH]
