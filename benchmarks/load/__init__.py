"""A load test of the whole platform: many users on the mixed API, and an account of what they sent."""
