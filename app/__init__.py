"""The application on the library `laneway`: conversations, webhooks, documents, leads, workflows and pipelines."""
