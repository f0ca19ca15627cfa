"""`laneway drill`: disturbs workers or a broker of its own on purpose, and counts what became of numbered tasks."""
