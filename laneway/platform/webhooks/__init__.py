"""Outbound webhooks: signed, sent, retried and logged."""
