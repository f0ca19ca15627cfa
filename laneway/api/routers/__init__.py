"""The routers, one module for each noun."""
