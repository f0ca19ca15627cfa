"""Requests and responses of the platform, and the payloads of its own tasks."""
