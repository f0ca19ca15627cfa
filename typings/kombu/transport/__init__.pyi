# kombu 5.7

TRANSPORT_ALIASES: dict[str, str]
