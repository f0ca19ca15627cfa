"""Tasks that are submitted at fixed times."""
