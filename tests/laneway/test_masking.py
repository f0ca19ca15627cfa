"""What may be secret in an address is shown nowhere; the rest of it is."""

from __future__ import annotations

import time

import pytest

from laneway._masking import looks_secret, masked, masked_repr, without_secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://user:hunter2@x.example/a", "https://x.example/a"),
        ("redis://:hunter2@a:1/0;redis://u:hunter2@b:2/0", "redis://a:1/0;redis://b:2/0"),
        ("https://x.example/h?token=hunter2&page=2#end", "https://x.example/h?token=[redacted]&page=2#end"),
        ("https://x.example/h#access_token=hunter2", "https://x.example/h#access_token=[redacted]"),
        ("https://x.example/?X-Amz-Signature=ab", "https://x.example/?X-Amz-Signature=[redacted]"),
        ("https://x.example/?k=0123456789abcdef0123", "https://x.example/?k=[redacted]"),
        ("https://h.example/services/T024BE7LD/B0/Xq3vPz81LmNt5yRw7KdJ2cHs", "https://h.example/services/T024BE7LD/B0/[redacted]"),
        ("https://t.example/bot123456789:AAF-dq3Zk9xW1/send", "https://t.example/[redacted]/send"),
        ("https://w.example/0f8fad5b-d9cb-469f-a165-70867728950e", "https://w.example/[redacted]"),
        ("https://x.example/hooks/token/ab1/x", "https://x.example/hooks/token/[redacted]/x"),
        ("https://x.example/api-keys/ab1", "https://x.example/api-keys/[redacted]"),
        ('{"url": "https://x.example/?sig=ab", "n": 1}', '{"url": "https://x.example/?sig=[redacted]", "n": 1}'),
        ("see https://a.example/?code=1 and https://b.example/?code=2.", "see https://a.example/?code=[redacted] and https://b.example/?code=[redacted]"),
    ],
)  # fmt: skip
def test_what_may_be_secret_is_hidden(given: str, shown: str) -> None:
    assert masked(given) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://shop.example/hooks/orders/2026/v1/?page=2&sort=name",
        "https://shop.example/customer-conversations-and-documents/monthly_report_2026.json",
        "https://x.example/@ada/processConversation",
        "https://x.example/a?mail=me@example.com",
        "postgresql://db.example:5432/laneway?sslmode=verify-full",
        "https://x.example/1234567890123456789",
        "no address ?token=5 and /0f8fad5bd9cb469fa16570867728950e",
    ],
)
def test_words_numbers_and_short_values_are_kept(text: str) -> None:
    assert masked(text) == text.replace("/processConversation", "/[redacted]")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("{'password': 'hunter2', 'n': 1}", "{'password': [redacted], 'n': 1}"),
        ('{"token": "a\\"hunter2", "n": 1}', '{"token": [redacted], "n": 1}'),
        ("{'password': b'hunter2', 'n': 1}", "{'password': [redacted], 'n': 1}"),
        ("{'api_key': SecretStr('hunter2'), 'n': 1}", "{'api_key': [redacted], 'n': 1}"),
        ("{'secrets': {'a': ['x', 'hunter2']}, 'n': 1}", "{'secrets': [redacted], 'n': 1}"),
        ("{'password': 'hunt...", "{'password': [redacted]"),
        ("ValueError('{\\'password\\': \\'hunter2\\'}')", "ValueError('{\\'password\\': [redacted])"),
        ("login(password='hunter2 and more', n=1)", "login(password=[redacted], n=1)"),
        ("DB_PASSWORD_OLD=hunter2; n=1", "DB_PASSWORD_OLD=[redacted]; n=1"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer [redacted]"),
        ("{'X-Sent': 'Bearer hunter2hunter2'}", "{'X-Sent': 'Bearer [redacted]'}"),
        ("see postgresql://u:hunter2@db/x password=hunter2 n=1", "see postgresql://db/x password=[redacted] n=1"),
        (f"the token laneway_{'h' * 46} is old", "the token [redacted] is old"),
        (f"jwt eyJ{'h' * 20}.{'u' * 20}.{'n' * 20}", "jwt [redacted]"),
    ],
)
def test_what_has_the_name_of_a_secret_is_hidden_in_the_text_of_a_value(given: str, shown: str) -> None:
    assert masked_repr(given) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{'tokens': 5, 'keys': ['a'], 'text': 'the password is wrong'}",
        "    if token == expected:",
        "except BadToken:\n    raise",
        "KeyError('token')",
        "Bearer of good news",
    ],
)
def test_other_text_of_a_value_is_kept(text: str) -> None:
    assert masked_repr(text) == text


def test_the_text_in_a_value_may_be_masked_as_that_of_a_value() -> None:
    told = {"echo": ["login(password='hunter2')"], "token": 1, "n": 1}

    assert without_secrets(told, of_text=masked_repr) == {
        "echo": ["login(password=[redacted])"],
        "token": "[redacted]",
        "n": 1,
    }


def test_a_long_text_of_a_value_takes_no_longer_than_its_length() -> None:
    for part in (
        "password",
        "token='",
        "'password': ",
        "password=(",
        "secret" + "-" * 64,
        "eyJ" + "a" * 9 + ".",
        "Bearer ",
    ):
        text = part * (200_000 // len(part))
        began = time.process_time()
        masked_repr(text)
        assert time.process_time() - began < 2, part


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    for part in ("://", "a://b?", "https://x/" + "-" * 40, "?token=", "#&", "://@", "/key/key"):
        text = "https://x/" + part * (200_000 // len(part))
        began = time.process_time()
        masked(text)
        assert time.process_time() - began < 2, part


def test_a_part_of_a_path_is_a_secret_by_its_look() -> None:
    for part in ("a1b2c3d4e5f6a7b8", "ABCDEFGHIJKLMNOPQRST", "k" * 30, "aB" * 8):
        assert looks_secret(part), part
    for part in ("conversations", "2026-11-30", "a1b2c3", "webhook_deliveries-v2", "order.created.example.shop"):
        assert not looks_secret(part), part
