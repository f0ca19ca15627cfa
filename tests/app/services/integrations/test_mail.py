"""E-mail to a real SMTP server on this machine: received e-mails, and the error for each reply."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from app.core.settings import MailSettings
from app.services.integrations.mail import Email, Mail, MailRefused, RecipientsRefused
from laneway.platform.errors import NotConfigured, UpstreamError
from tests.fixtures.certificates import self_signed
from tests.fixtures.mail_server import PASSWORD, USER, MailServer
from tests.fixtures.platform import Environment
from tests.fixtures.valkey import free_port

EMAIL = Email("email-1", "New lead: Ada", "Ada Lovelace wants a bicycle.\n")
SENDER, TO = "crm@example.com", "sales@example.com"


@pytest.fixture(autouse=True)
def _clean(environment: Environment) -> None:
    """Ignore the settings of this machine."""


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


def mail(port: int, **more: object) -> Mail:
    given = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": port, "MAIL_FROM": SENDER, "SMTP_TIMEOUT_SECONDS": 3, **more}
    return Mail(MailSettings.model_validate(given))


def test_an_email_arrives_as_it_was_written(server: MailServer) -> None:
    mail(server.port).send(EMAIL, to=TO)

    (arrived,) = server.arrived
    message = arrived.message
    assert (arrived.sender, arrived.to, arrived.text) == (SENDER, (TO,), EMAIL.text)
    assert (message["From"], message["To"], message["Subject"]) == (SENDER, TO, EMAIL.subject)
    assert message["Message-ID"] == "<email-1@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.tzinfo is not None


def test_every_script_arrives_in_subject_text_and_address(server: MailServer) -> None:
    email = Email("x", "Neue Anfrage: Åsa Öberg 李雷 🚲", "Grüße, 李雷 🚲\n" + "ä" * 2000 + "\n")
    mail(server.port).send(email, to="åsa@example.com")

    (arrived,) = server.arrived
    assert arrived.to == ("åsa@example.com",)
    assert (arrived.message["Subject"], arrived.text) == (email.subject, email.text)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x00", "\x0b", "\u2028", "\x85"])
def test_text_from_outside_adds_no_header_and_no_recipient(server: MailServer, end: str) -> None:
    name = f"Ada{end}Bcc: thief@example.com{end}{end}Body"
    text = f"{name}\n.\nRCPT TO:<thief@example.com>\n"
    mail(server.port).send(Email(f"id{end}X: y", f"New lead: {name}", text), to=TO)

    (arrived,) = server.arrived
    assert arrived.to == (TO,)
    assert sorted(arrived.message.keys()) == sorted(
        [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
            "MIME-Version",
        ]
    )
    assert arrived.message["Subject"] == "New lead: Ada Bcc: thief@example.com Body"
    assert "RCPT TO:<thief@example.com>" in arrived.text


def test_lone_surrogates_are_replaced_and_long_text_is_cut(server: MailServer) -> None:
    mail(server.port).send(Email("x", "\ud800" + "s" * 5000, "\ud800" + "t\n" * 50_000), to=TO)

    (arrived,) = server.arrived
    assert len(arrived.message["Subject"]) == 200
    assert len(arrived.text) <= 20_001


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_temporary_reply_is_retryable_and_a_permanent_one_is_not(server: MailServer, command: str) -> None:
    server.answer_next(command, "451 greylisted, come back later", "554 we do not want this")
    refusal = MailRefused if command == "MAIL" else RecipientsRefused

    with pytest.raises(UpstreamError, match="451 greylisted") as passing:
        mail(server.port).send(EMAIL, to=TO)
    with pytest.raises(refusal, match="554 we do not want this") as final:
        mail(server.port).send(EMAIL, to=TO)

    assert (passing.value.retryable, final.value.retryable) == (True, False)
    assert server.arrived == []
    mail(server.port).send(EMAIL, to=TO)
    assert len(server.arrived) == 1


def test_a_refused_recipient_is_named(server: MailServer) -> None:
    server.refused[TO] = "550 no such user"

    with pytest.raises(RecipientsRefused, match=f"{TO}: 550 no such user"):
        mail(server.port).send(EMAIL, to=TO)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_a_server_for_ascii_addresses_refuses_only_the_recipient() -> None:
    login = {"SMTP_USER": USER, "SMTP_PASSWORD": PASSWORD}
    with MailServer(utf8=False, login=True) as server:
        with pytest.raises(RecipientsRefused, match=r"åsa@example\.com: .*ASCII"):
            mail(server.port, **login).send(EMAIL, to="åsa@example.com")
        with pytest.raises(MailRefused, match="MAIL_FROM"):
            mail(server.port, MAIL_FROM="crm@exämple.com", **login).send(EMAIL, to=TO)

    assert server.arrived == []


def test_an_unreachable_server_is_retryable() -> None:
    with pytest.raises(UpstreamError, match="cannot be reached: Connection refused"):
        mail(free_port()).send(EMAIL, to=TO)


def test_a_server_that_does_not_answer_is_retryable_after_the_time_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UpstreamError, match=r"no answer within 0\.3 s"),
    ):
        mail(silent.getsockname()[1], SMTP_TIMEOUT_SECONDS=0.3).send(EMAIL, to=TO)


def test_without_a_server_the_missing_setting_is_named() -> None:
    with pytest.raises(NotConfigured, match="SMTP_HOST"):
        Mail(MailSettings()).send(EMAIL, to=TO)


# Encryption and login


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(tmp_path_factory.mktemp("tls"), name="mail.example", alternative="IP:127.0.0.1")


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")  # of STARTTLS; it has TLS
@pytest.mark.parametrize("how", ["SMTP_STARTTLS", "SMTP_TLS"])
def test_the_login_uses_an_encrypted_connection(
    certificate: tuple[str, str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    login = {how: True, "SMTP_USER": USER, "SMTP_PASSWORD": PASSWORD}
    with MailServer(certificate=certificate, login=True, tls=how == "SMTP_TLS") as server:
        mail(server.port, **login).send(EMAIL, to=TO)
        with pytest.raises(MailRefused, match="check SMTP_USER and SMTP_PASSWORD") as refused:
            mail(server.port, **{**login, "SMTP_PASSWORD": "wrong-4712"}).send(EMAIL, to=TO)

    assert len(server.arrived) == 1
    assert "wrong-4712" not in str(refused.value)


@pytest.mark.parametrize("how", ["SMTP_STARTTLS", "SMTP_TLS"])
def test_a_server_with_an_untrusted_certificate_gets_no_email(certificate: tuple[str, str], how: str) -> None:
    with (
        MailServer(certificate=certificate, tls=how == "SMTP_TLS") as server,
        pytest.raises(UpstreamError, match="certificate cannot be trusted"),
    ):
        mail(server.port, **{how: True}).send(EMAIL, to=TO)

    assert server.arrived == []


def test_a_server_without_starttls_gets_no_email_if_starttls_is_set(server: MailServer) -> None:
    with pytest.raises(MailRefused, match="SMTP_STARTTLS"):
        mail(server.port, SMTP_STARTTLS=True).send(EMAIL, to=TO)

    assert server.arrived == []
