"""One router a domain."""
