"""The Lua scripts, one operation each; `laneway.engine.script_loader` puts them together."""
