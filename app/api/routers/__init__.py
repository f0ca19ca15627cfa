"""The application's routers, one a domain."""
