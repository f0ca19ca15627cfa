"""kombu's side of the engine: the transport, its channels, and the leases of what a process holds."""
