"""Reports on conversations and tasks."""
