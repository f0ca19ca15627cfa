"""`laneway gate`: what would fail if this code took over what waits."""
