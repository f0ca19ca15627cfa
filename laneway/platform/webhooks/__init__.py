"""Outbound webhooks: sign, send, retry and log them. Signatures of inbound webhooks are verified here, too."""
