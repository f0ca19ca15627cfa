"""Leads, and the CRM that receives them."""
