# authlib 1.9

from typing import Any

class OpenIDMixin:
    def parse_id_token(self, token: dict[str, Any], nonce: str) -> dict[str, Any] | None: ...
