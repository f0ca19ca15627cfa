# authlib 1.9

from typing import Any, ClassVar

class OAuth2Base:
    client_cls: ClassVar[type[Any]]
    def __init__(
        self,
        framework: None,
        name: str | None = None,
        *,
        client_id: str | None,
        client_secret: str | None,
        server_metadata_url: str,
        client_kwargs: dict[str, Any],
    ) -> None: ...

class OAuth2Mixin:
    def load_server_metadata(self) -> dict[str, Any]: ...
    def create_authorization_url(self, redirect_uri: str) -> dict[str, str]: ...
    def fetch_access_token(self, redirect_uri: str, *, code: str, code_verifier: str) -> dict[str, Any]: ...
