"""A CRM with a REST API, configured by the `CRM_` settings.

A creation or an update is one JSON request with an Idempotency-Key. The response decides what follows:

- 2xx: accepted. The response to a creation has the record's id at `CRM_ID_PATH`.
- 408, 425, 429, 5xx, a time-out, no connection: retryable; Retry-After is honoured.
- 409: the CRM has conflicting data. To a creation, the existing record is the one whose id is at `CRM_ID_PATH`, or in
  the CRM's sentence (`CRM_CONFLICT_ID_PATTERN`), or that `CRM_SEARCH_REQUEST` finds; without one the task is retried.
- 404 and 410 for an update: the record is gone.
- any other status, including redirects: refused permanently, with the CRM's text but without the token.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from app.core.settings import CrmSettings
from app.services.leads.crm.base import SERVICE, CrmConflict, CrmLead, CrmMissing, CrmRefused, CrmUnreadable
from app.services.leads.crm.mapping import filled, mapped, value_at
from laneway.platform import clock
from laneway.platform.errors import PlatformError, UpstreamError
from laneway.platform.retry_after import retry_after
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.address_rules import AllowPrivate

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
GONE_STATUSES: Final = (404, 410)
MAX_EXCERPT_LENGTH, MAX_ID_LENGTH = 300, 200
"""Characters of the CRM's text in an error, and of a record's id."""
CONFLICT: Final = 409
MAX_SENTENCE: Final = 4096
"""Bytes of the response to a conflict in which an id is searched."""
_HINTS: Final = {
    401: "check CRM_TOKEN",
    403: "check CRM_TOKEN and its permissions",
    404: "check CRM_BASE_URL and CRM_CREATE_REQUEST",
    405: "check CRM_CREATE_REQUEST and CRM_UPDATE_REQUEST",
}


class RestCrm:
    """Sends leads to a REST API. It keeps no connection, so threads may share it."""

    name = "rest"

    def __init__(self, settings: CrmSettings) -> None:
        self._settings, self._base = settings, (settings.base_url or "").rstrip("/")
        self._token = settings.token.get_secret_value() if settings.token else ""

    def create(self, lead: CrmLead, *, key: str) -> str:
        """Create a record and return its id."""
        method, _, path = self._settings.create_request.partition(" ")
        body = mapped(lead.data, self._settings.mapping, include_unknown=False)
        response = self._send(method, path, body, key=key)
        if 200 <= response.status < 300:
            id = self._record_id(response, self._settings.id_path)
            if id is None and response.broken:
                raise UpstreamError(SERVICE, f"it answered {response.status}, but {response.broken}")
            if id is None:
                where = f"CRM_ID_PATH ({self._settings.id_path})"
                raise CrmUnreadable(SERVICE, f"it answered {response.status}, and no id is at {where} of its answer")
            return id
        if response.status == CONFLICT:
            raise self._conflict(response, lead)
        raise self._status_error(response)

    def update(self, id: str, lead: CrmLead, *, key: str) -> None:
        """Write the lead into the record; unknown fields are sent as null."""
        method, _, path = self._settings.update_request.partition(" ")
        path = path.replace("{id}", quote(id, safe=""))
        body = mapped(lead.data, self._settings.mapping, include_unknown=True)
        response = self._send(method, path, body, key=key)
        if response.status in GONE_STATUSES:
            raise CrmMissing(id)
        if not 200 <= response.status < 300:
            raise self._status_error(response)

    def _conflict(self, response: egress.HttpResponse, lead: CrmLead) -> CrmConflict:
        """The error of a creation that conflicts with an existing record, with its id if it can be found."""
        text = response.body[:MAX_SENTENCE].decode("utf-8", "replace")
        named = re.search(self._settings.conflict_id, text)
        excerpt = self._excerpt(response.body) or "without a reason"
        id = self._record_id(response, self._settings.id_path) or (named[1] if named else None)
        if id is None and not self._settings.search_request:
            return CrmConflict(f"{excerpt}; set CRM_SEARCH_REQUEST, so that the existing record is found")
        return CrmConflict(excerpt, id or self._search(lead, excerpt))

    def _search(self, lead: CrmLead, excerpt: str) -> str:
        """The id of the one record that `CRM_SEARCH_REQUEST` finds. Raises CrmConflict, and the errors of requests."""
        method, _, template = (self._settings.search_request or "").partition(" ")
        try:
            path = filled(template, lead.data, encode=lambda value: quote(value, safe=""))
            body = filled(self._settings.search_body, lead.data) if method == "POST" else None
        except LookupError as error:
            raise CrmConflict(
                f"{excerpt}; the lead has no {error.args[0]} to search for the existing record"
            ) from error
        response = self._send(method, path, body)
        if not 200 <= response.status < 300:
            raise self._status_error(response, "CRM_SEARCH_REQUEST")
        first = self._settings.search_id_path
        id, second = self._record_id(response, first), self._record_id(response, _next_item(first))
        if id is None or (second is not None and second != id):
            found = "several records" if id else f"no record at CRM_SEARCH_ID_PATH ({first})"
            raise CrmConflict(f"{excerpt}; CRM_SEARCH_REQUEST finds {found}")
        return id

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, *, key: str | None = None
    ) -> egress.HttpResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        if self._token:
            name, _, value = self._settings.auth_header.partition(": ")
            headers[name] = value.replace("{token}", self._token)
        try:
            return egress.send(
                method,
                self._base + path,
                b"" if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=self._settings.timeout,
                allow_private=AllowPrivate.ALL,
            )
        except UpstreamError as error:
            raise UpstreamError(SERVICE, error.reason, error.after) from None

    def _status_error(self, response: egress.HttpResponse, setting: str | None = None) -> PlatformError:
        """The error of a response without success; `setting` names the request if it is none that writes."""
        excerpt = self._excerpt(response.body)
        reason = f"it answered {response.status}" + (f" ({excerpt})" if excerpt else "")
        if response.status == CONFLICT:
            return CrmConflict(excerpt or "without a reason")
        if response.status in RETRYABLE_STATUSES or response.status >= 500:
            delay = retry_after(response.headers.get("retry-after"), at=clock.now())
            return UpstreamError(SERVICE, reason, delay)
        hint = _HINTS.get(response.status)
        if setting and response.status not in (401, 403):
            hint = f"check {setting}"
        if 300 <= response.status < 400:
            hint = "redirects are not followed, check CRM_BASE_URL"
        return CrmRefused(SERVICE, reason + (f": {hint}" if hint else ""))

    def _record_id(self, response: egress.HttpResponse, path: str) -> str | None:
        try:
            id = value_at(json.loads(response.body), path)
        except (ValueError, RecursionError):
            return None
        if isinstance(id, bool) or not isinstance(id, str | int):
            return None
        text = str(id)
        return text if 0 < len(text) <= MAX_ID_LENGTH and text.isprintable() else None

    def _excerpt(self, body: bytes) -> str:
        """The beginning of the CRM's text in one line; a token that it repeats is blanked."""
        text = body.decode("utf-8", "replace")
        for form in filter(None, (self._token, json.dumps(self._token)[1:-1])):
            text = text.replace(form, "***")
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:MAX_EXCERPT_LENGTH]


def _next_item(path: str) -> str:
    """The same path into the next item of the last list: `results.1.id` for `results.0.id`."""
    parts = path.split(".")
    index = max((number for number, part in enumerate(parts) if part == "0"), default=None)
    return ".".join(part if number != index else "1" for number, part in enumerate(parts))
