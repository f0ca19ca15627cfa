"""The web console. Not implemented yet."""
