"""The platform's tables, their queries and their migrations."""
