"""How fast a queue may go."""
