"""Settings of leads: the CRM that receives them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, Json, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group

DottedPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+){0,7}$", max_length=200)]
"""One to eight names, separated by dots."""
RequestLine = Annotated[str, StringConstraints(pattern=r"^(POST|PUT|PATCH) /[^\s?#]*$", max_length=500)]
"""A method and a path below `CRM_BASE_URL`."""


class CrmSettings(Group):
    """The CRM that receives leads: the local one, or a REST API at `CRM_BASE_URL`."""

    base_url: str | None = Field(None, alias="CRM_BASE_URL", pattern=r"^https?://[^\s?#]+$")
    token: SecretStr | None = Field(None, alias="CRM_TOKEN")
    auth_header: str = Field(
        "Authorization: Bearer {token}",
        alias="CRM_AUTH_HEADER",
        pattern=r"^[A-Za-z0-9-]+: [\x20-\x7e]*\{token\}[\x20-\x7e]*$",
    )
    create_request: RequestLine = Field("POST /leads", alias="CRM_CREATE_REQUEST")
    update_request: RequestLine = Field("PATCH /leads/{id}", alias="CRM_UPDATE_REQUEST")
    id_path: DottedPath = Field("id", alias="CRM_ID_PATH")
    mapping: Annotated[Json[dict[DottedPath, DottedPath]], NoDecode] = Field(
        {}, alias="CRM_FIELD_MAPPING", validate_default=False
    )
    timeout: float = Field(10, alias="CRM_TIMEOUT_SECONDS", gt=0, le=120)

    @field_validator("token")
    @classmethod
    def _require_header_characters(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("CRM_TOKEN must be visible ASCII characters without spaces: it is sent in a header")
        return value

    @model_validator(mode="after")
    def _check_requests(self) -> CrmSettings:
        if not self.base_url:
            for name, value in (("CRM_TOKEN", self.token), ("CRM_FIELD_MAPPING", self.mapping)):
                if value:
                    raise ValueError(f"{name} needs CRM_BASE_URL: the local CRM takes neither a token nor a mapping")
            return self
        parts = urlsplit(self.base_url)
        if not parts.hostname or "@" in parts.netloc:
            raise ValueError("CRM_BASE_URL must name a host, and no user or password: set CRM_TOKEN instead")
        if self.update_request.count("{id}") != 1 or "{id}" in self.create_request:
            raise ValueError("CRM_UPDATE_REQUEST must have {id} once in its path, and CRM_CREATE_REQUEST must not")
        return self

    @model_validator(mode="after")
    def _check_mapping(self) -> CrmSettings:
        targets = list(self.mapping.values())
        for target in targets:
            if targets.count(target) > 1 or any(other.startswith(f"{target}.") for other in targets):
                raise ValueError(f"CRM_FIELD_MAPPING writes {target!r} twice, or writes both it and a part of it")
        return self
