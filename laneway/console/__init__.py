"""The web console: pages for people, rendered by the server.

A page reads through the services of the platform. Whatever a page changes, it changes through the API, so that scopes,
audit log and limits are the same for a person and for a program.

An application adds pages of its own: a module with a `router` and a tuple `navigation`, whose functions return
`Pages("its.package").show(...)` (`laneway.console.rendering`).
"""
