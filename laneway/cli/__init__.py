"""The command `laneway` (extra `platform`)."""
