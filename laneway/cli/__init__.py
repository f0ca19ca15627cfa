"""The command `laneway`."""
