"""The figures of `/metrics`: what all processes share, read from the broker and the database."""
