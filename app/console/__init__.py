"""The commands of `laneway`, by subject."""
