"""Tasks run in tests; it comes with a later release."""
