"""FastAPI routers that any application can mount, and one form for every error."""
