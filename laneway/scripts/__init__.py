"""The Lua scripts, one operation each; `laneway.loader` puts them together."""
