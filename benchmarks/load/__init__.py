"""A load test of the whole platform: many users of all routes, and an account of every task that they submitted."""
