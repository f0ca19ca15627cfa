"""kombu's side of the engine: the transport, its channels, and the leases of the messages that a process holds."""
