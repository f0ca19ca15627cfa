"""What operators do, and what keeps the platform in order."""
