"""The headers that keep a browser from showing, loading and storing more than it has to."""

from __future__ import annotations

import base64
import hashlib
import re

from tests.fixtures.api import Api

PATHS = ("/health/live", "/tasks", "/queues", "/nowhere", "/openapi.json", "/docs", "/webhooks/nobody")


def test_no_response_can_be_framed_stored_or_made_to_load_anything(api: Api) -> None:
    for path in PATHS:
        headers = api.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, path
        assert headers["cache-control"] == "no-store", path
        assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer", path
        assert "server" not in headers and "x-powered-by" not in headers, path


def test_the_page_of_operations_has_the_style_that_its_policy_allows(api: Api) -> None:
    answer = api.http.get("/docs")

    (style,) = re.findall(r"<style>(.*?)</style>", answer.text)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{allowed}'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text
