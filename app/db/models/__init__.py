"""The application's tables, one module per domain."""

from app.db.models.analytics import ConversationAnalysis, Report
from app.db.models.base import Base
from app.db.models.conversations import Conversation, Message
from app.db.models.documents import Document, Passage
from app.db.models.leads import CrmRecord, Lead
from app.db.models.webhooks import WebhookDelivery, WebhookEvent, WebhookMapping

__all__ = [
    "Base",
    "Conversation",
    "ConversationAnalysis",
    "CrmRecord",
    "Document",
    "Lead",
    "Message",
    "Passage",
    "Report",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookMapping",
]
