"""Mail, object storage and text analysis: services that every domain may use."""
