"""Payloads, requests and responses as Pydantic models, one module per domain."""
