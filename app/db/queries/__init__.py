"""The application's queries, one module per family of tables; each function takes an open session."""
