"""Client and AsyncClient: use a platform over HTTP. Not implemented yet."""
