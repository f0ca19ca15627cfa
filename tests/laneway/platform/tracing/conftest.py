"""A collector for tests of traces."""

from tests.fixtures.span_collector import span_collector  # noqa: F401
