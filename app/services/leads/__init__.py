"""Leads, and the CRM that is told of them."""
