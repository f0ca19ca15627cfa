"""Who may do what: scopes, tokens, and the caller of a request."""
