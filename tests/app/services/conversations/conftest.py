"""Fixtures of the tests of conversations."""

from tests.fixtures.model_endpoint import ask  # noqa: F401
