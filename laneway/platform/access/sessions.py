"""The cookies of sessions, and the tokens that protect the writes of people (CSRF). Both are signed.

A cookie has the id of a session (`logins`), and only this platform can make it. API and Flower share the secret, so
one login opens both. A CSRF token belongs to one session; a page of another site can neither read nor make one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

from itsdangerous import BadData, URLSafeTimedSerializer

from laneway.platform.access.caller import Caller
from laneway.platform.access.roles import Role, Roles

LONGEST_COOKIE: Final = 4096
"""Characters of a cookie that are looked at."""
SESSION_SALT, LOGIN_SALT, CSRF_SALT = "laneway.session", "laneway.login", "laneway.csrf"
"""Different salts make different keys, so that a value of one kind is never taken for another."""
LOGIN_SECONDS: Final = 600
"""Seconds that a person may take at the provider."""


class Sessions:
    """Makes and reads the cookies of sessions, and their CSRF tokens."""

    def __init__(self, keys: Sequence[str], roles: Roles, *, hours: float, secure: bool) -> None:
        """`keys`: the secret that signs, then earlier ones that are accepted. `secure`: browsers use https."""
        self._roles, self.seconds, self.secure = roles, round(hours * 3600), secure
        self._serializers = {salt: _serializer(keys, salt) for salt in (SESSION_SALT, LOGIN_SALT, CSRF_SALT)}

    @property
    def cookie(self) -> str:
        """The name of the cookie. With https no other host can set it (`__Host-`)."""
        return "__Host-laneway_session" if self.secure else "laneway_session"

    def cookie_for(self, id: str) -> str:
        """The cookie of a session."""
        return self._sign(SESSION_SALT, id)

    def read(self, cookie: str | None) -> str | None:
        """The id of the session of a cookie; None if the cookie is missing, forged, altered or too old."""
        value = self._verify(SESSION_SALT, cookie, seconds=self.seconds)
        return value if isinstance(value, str) else None

    def person(self, name: str, role: Role) -> Caller:
        """The caller of the requests of a person with this role."""
        return Caller(kind="person", name=name, scopes=self._roles.scopes_of(role))

    def csrf_token(self, subject: str) -> str:
        """The token that a form or a write with a cookie must carry. `subject`: of a session, `logins.browser_of`."""
        return self._sign(CSRF_SALT, subject)

    def is_csrf_token(self, token: str | None, subject: str) -> bool:
        """Whether a token was made for this subject, by this platform, not too long ago."""
        value = self._verify(CSRF_SALT, token, seconds=self.seconds)
        return isinstance(value, str) and hmac.compare_digest(value.encode(), subject.encode())

    def note_login(self, noted: dict[str, str]) -> str:
        """The value of the cookie that a browser keeps while its person is at the provider."""
        return self._sign(LOGIN_SALT, noted)

    def noted_login(self, cookie: str | None) -> dict[str, str] | None:
        """What `note_login` noted; None if the cookie is missing, forged, altered or too old."""
        return self._verify(LOGIN_SALT, cookie, seconds=LOGIN_SECONDS)

    def _sign(self, salt: str, value: Any) -> str:
        return self._serializers[salt].dumps(value)

    def _verify(self, salt: str, text: str | None, *, seconds: int) -> Any:
        if not text or len(text) > LONGEST_COOKIE:
            return None
        try:
            return self._serializers[salt].loads(text, max_age=seconds)
        except (BadData, RecursionError):
            return None


def _serializer(keys: Sequence[str], salt: str) -> URLSafeTimedSerializer:
    # itsdangerous signs with the last key of a list
    return URLSafeTimedSerializer(
        list(reversed(keys)), salt=salt, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    )
