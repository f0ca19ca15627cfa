"""The application's queries, one module a family of tables; each function takes an open session."""
