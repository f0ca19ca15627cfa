"""Payloads and answers as Pydantic models, one file a domain."""
