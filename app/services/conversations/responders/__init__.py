"""Responders write the replies: one needs no network, one uses an OpenAI-compatible endpoint."""

from app.services.conversations.responders.base import Reason, Reply, Responder, SourcePassage, Turn
from app.services.conversations.responders.factory import make_responder

__all__ = ["Reason", "Reply", "Responder", "SourcePassage", "Turn", "make_responder"]
