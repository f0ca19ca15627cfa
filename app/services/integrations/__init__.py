"""Mail, object storage, text analysis."""
