"""Who writes the replies: one protocol, an implementation that needs no network, and one for OpenAI-like endpoints."""

from app.services.conversations.responders.base import Reason, Reply, Responder, SourcePassage, Turn, make_responder

__all__ = ["Reason", "Reply", "Responder", "SourcePassage", "Turn", "make_responder"]
