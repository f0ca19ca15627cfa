"""Every query of the platform, one module a table family; each function takes an open session."""
