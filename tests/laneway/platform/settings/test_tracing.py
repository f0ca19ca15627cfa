"""The settings of traces: what cannot be is refused at start, with the names of the settings."""

from __future__ import annotations

import pytest

from app.core.settings import load_settings
from laneway.platform.errors import ConfigError
from tests.fixtures.platform import Environment

HERE = "http://127.0.0.1:4318"


def refusal(environment: Environment, **values: str) -> str:
    environment(**values)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (HERE, f"{HERE}/v1/traces"),
        (f"{HERE}/", f"{HERE}/v1/traces"),
        (f"{HERE}/otlp/v1/traces", f"{HERE}/otlp/v1/traces"),
        ("https://collector.example/tenant", "https://collector.example/tenant/v1/traces"),
    ],
)
def test_the_path_of_spans_is_added_to_the_address(environment: Environment, endpoint: str, url: str) -> None:
    environment(TRACING_ENDPOINT=endpoint)
    assert load_settings().tracing.traces_url == url


def test_without_an_address_there_are_no_traces(environment: Environment) -> None:
    environment()
    assert load_settings().tracing.traces_url is None
    assert "TRACING_HEADERS needs TRACING_ENDPOINT" in refusal(environment, TRACING_HEADERS="x-key=hunter2")


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "grpc://127.0.0.1:4317", "http://", "http://a:port", "http://a:0", f"{HERE}?key=1"]
)
def test_what_is_no_address_of_a_collector_is_refused(environment: Environment, endpoint: str) -> None:
    assert "TRACING_ENDPOINT must be an address such as" in refusal(environment, TRACING_ENDPOINT=endpoint)


@pytest.mark.parametrize("sample", ["1.1", "-0.1", "all", "nan"])
def test_a_share_that_is_none_is_refused(environment: Environment, sample: str) -> None:
    assert "TRACING_SAMPLE" in refusal(environment, TRACING_ENDPOINT=HERE, TRACING_SAMPLE=sample)


def test_two_settings_of_one_thing_are_refused(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    told = refusal(environment, TRACING_ENDPOINT=HERE, TRACING_SAMPLE="0.5")
    assert "TRACING_SAMPLE and OTEL_TRACES_SAMPLER" in told


@pytest.mark.parametrize("headers", ["x-key", "x-key hunter2", "=hunter2", "x-key=hunter2\r\nHost: a", "x key=hunter2"])
def test_headers_that_are_none_are_refused_without_showing_them(environment: Environment, headers: str) -> None:
    told = refusal(environment, TRACING_ENDPOINT=HERE, TRACING_HEADERS=headers)
    assert "TRACING_HEADERS must be name=value" in told
    assert "hunter2" not in told


def test_headers_are_read(environment: Environment) -> None:
    environment(TRACING_ENDPOINT=HERE, TRACING_HEADERS="authorization=Basic aHVudGVyMg==, x-tenant=7,")
    assert load_settings().tracing.header_values == {"authorization": "Basic aHVudGVyMg==", "x-tenant": "7"}


def test_a_key_for_another_machine_needs_tls_or_an_exception(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = "http://collector.example:4318"
    told = refusal(environment, TRACING_ENDPOINT=there, TRACING_HEADERS="x-key=hunter2")
    assert "TRACING_ENDPOINT sends a key or a password to collector.example without TLS" in told
    environment(ALLOW_INSECURE="TRACING_ENDPOINT")
    assert load_settings().tracing.traces_url
    environment(ALLOW_INSECURE="", TRACING_HEADERS="")
    assert load_settings().tracing.traces_url, "without a key there is nothing to see"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")
    assert "TRACING_ENDPOINT sends a key" in refusal(environment)
    environment(TRACING_ENDPOINT="https://collector.example")
    assert load_settings().tracing.traces_url
