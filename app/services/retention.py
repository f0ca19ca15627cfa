"""How long the application keeps its own data."""

from __future__ import annotations

from datetime import timedelta

from app.core.settings import Settings
from app.db.queries import retention as queries
from laneway.platform.operations.retention import RetentionRule


def retention_rules(settings: Settings) -> list[RetentionRule]:
    """One rule per kind of data, in the order of deletion.

    Messages go before their conversations, events before the deliveries that they came in.
    """
    conversations = timedelta(days=settings.retention.conversations)
    webhooks = timedelta(days=settings.storage.keep_webhooks)
    return [
        RetentionRule("messages", queries.delete_messages, conversations),
        RetentionRule("conversations", queries.delete_conversations, conversations),
        RetentionRule("webhook_events", queries.delete_events, webhooks),
        RetentionRule("webhook_deliveries", queries.delete_deliveries, webhooks),
        RetentionRule("leads", queries.delete_leads, timedelta(days=settings.retention.leads)),
        RetentionRule("documents", queries.delete_documents, conversations),
        RetentionRule("reports", queries.delete_reports, timedelta(days=settings.retention.reports)),
    ]
