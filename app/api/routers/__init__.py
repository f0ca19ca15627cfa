"""The application's routers, one per domain."""
