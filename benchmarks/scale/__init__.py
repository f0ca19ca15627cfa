"""How the cost of the engine and of the platform grows with queues, consumers, messages, rows and workers."""
