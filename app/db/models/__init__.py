"""The application's tables, a module for each noun."""

from app.db.models.base import Base
from app.db.models.conversations import Conversation, ConversationAnalysis, Message, Report
from app.db.models.documents import Document, Passage
from app.db.models.leads import CrmRecord, Lead
from app.db.models.webhooks import WebhookDelivery, WebhookEvent

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
]
