"""Settings of leads: the CRM that receives them."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, Json, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group
from laneway.platform.settings.plaintext import plain_host

DottedPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+){0,7}$", max_length=200)]
"""One to eight names, separated by dots."""
RequestLine = Annotated[str, StringConstraints(pattern=r"^(POST|PUT|PATCH) /[^\s?#]*$", max_length=500)]
"""A method and a path below `CRM_BASE_URL`."""
SearchLine = Annotated[str, StringConstraints(pattern=r"^(GET|POST) /[^\s#]*$", max_length=500)]
"""A method, and a path with a query below `CRM_BASE_URL`; `{email}` stands for a field of the lead."""
DEFAULT_CONFLICT_ID = r"(?i)existing (?:record )?id:? *([\w-]{1,200})"
"""Reads "Contact already exists. Existing ID: 5512"."""


class CrmSettings(Group):
    """The CRM that receives leads: the local one, or a REST API at `CRM_BASE_URL`."""

    base_url: str | None = Field(None, alias="CRM_BASE_URL", pattern=r"^https?://[^\s?#]+$")
    """A CRM with a REST API that receives every lead. Without it, a local CRM in the database keeps them."""
    token: SecretStr | None = Field(None, alias="CRM_TOKEN")
    """The token of the CRM."""
    auth_header: str = Field(
        "Authorization: Bearer {token}",
        alias="CRM_AUTH_HEADER",
        pattern=r"^[A-Za-z0-9-]+: [\x20-\x7e]*\{token\}[\x20-\x7e]*$",
    )
    """The header that carries the token."""
    create_request: RequestLine = Field("POST /leads", alias="CRM_CREATE_REQUEST")
    """Method and path of the request that creates a lead."""
    update_request: RequestLine = Field("PATCH /leads/{id}", alias="CRM_UPDATE_REQUEST")
    """Method and path of the request that updates a lead."""
    id_path: DottedPath = Field("id", alias="CRM_ID_PATH")
    """The path of the record's id in the response to a creation."""
    search_request: SearchLine | None = Field(None, alias="CRM_SEARCH_REQUEST")
    """Method and path of the search for a record that exists already, when a creation is answered 409."""
    search_body: Annotated[Json[dict[str, Any]], NoDecode] = Field({}, alias="CRM_SEARCH_BODY", validate_default=False)
    """What a search by POST sends, as JSON."""
    search_id_path: DottedPath = Field("results.0.id", alias="CRM_SEARCH_ID_PATH")
    """The path of the id of the first record in the response to a search."""
    conflict_id: str = Field(DEFAULT_CONFLICT_ID, alias="CRM_CONFLICT_ID_PATTERN", max_length=500)
    """A regular expression with one group: the id that the text of a 409 names."""
    mapping: Annotated[Json[dict[DottedPath, DottedPath]], NoDecode] = Field(
        {}, alias="CRM_FIELD_MAPPING", validate_default=False
    )
    """Our field → the CRM's field, as JSON. Other fields are not sent. Without a mapping all are sent under our names.

    """
    timeout: float = Field(10, alias="CRM_TIMEOUT_SECONDS", gt=0, le=120)
    """Seconds that the CRM has to respond."""

    def exposed(self) -> dict[str, str]:
        host = plain_host(self.base_url) if self.token else None
        return {"CRM_BASE_URL": host} if host else {}

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

    @field_validator("conflict_id")
    @classmethod
    def _require_one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"CRM_CONFLICT_ID_PATTERN is not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError("CRM_CONFLICT_ID_PATTERN must have one group in parentheses: the record's id")
        return value

    @model_validator(mode="after")
    def _check_search(self) -> CrmSettings:
        if not self.search_request:
            if self.search_body:
                raise ValueError("CRM_SEARCH_BODY needs CRM_SEARCH_REQUEST")
            return self
        if not self.base_url:
            raise ValueError("CRM_SEARCH_REQUEST needs CRM_BASE_URL: the local CRM has no search")
        if self.search_body and not self.search_request.startswith("POST "):
            raise ValueError("CRM_SEARCH_BODY needs a CRM_SEARCH_REQUEST with POST")
        if "{" not in self.search_request + str(list(self.search_body.values())):
            raise ValueError("CRM_SEARCH_REQUEST or CRM_SEARCH_BODY must name a field of the lead, such as {email}")
        return self

    @model_validator(mode="after")
    def _check_mapping(self) -> CrmSettings:
        targets = list(self.mapping.values())
        for target in targets:
            if targets.count(target) > 1 or any(other.startswith(f"{target}.") for other in targets):
                raise ValueError(f"CRM_FIELD_MAPPING writes {target!r} twice, or writes both it and a part of it")
        return self
