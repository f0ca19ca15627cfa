"""The pages, one module per domain."""
