"""Judges the search and the offline responder by questions over the example documents."""
