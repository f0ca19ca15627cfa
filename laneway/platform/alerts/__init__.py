"""Alerts: rules that find problems, the alerts that they open and close, and the notices about them."""
