"""A source without a secret is verified like any other, by a secret that nobody knows."""

from __future__ import annotations

from pydantic import SecretStr

from app.services.webhooks.webhooks import _known  # pyright: ignore[reportPrivateUsage]


def test_the_secret_of_a_source_that_has_none_is_new_each_time() -> None:
    made = {_known(None, "WEBHOOK_SECRETS").get_secret_value() for _ in range(10)}

    assert len(made) == 10
    assert all(len(secret) >= 32 for secret in made)
    assert _known(given := SecretStr("of-the-shop"), "WEBHOOK_SECRETS") is given
