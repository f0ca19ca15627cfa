"""Erasure: find and remove the data of one person, wherever it is stored."""
