"""The mapping: which task follows from which event of a webhook, as data in a YAML file (docs/inbound-webhooks.md)."""
