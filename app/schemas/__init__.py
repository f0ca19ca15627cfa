"""Payloads, requests and responses as Pydantic models, one module a domain."""
