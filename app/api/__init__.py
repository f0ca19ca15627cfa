"""The HTTP API: routers parse requests and call services; one handler turns errors into problems."""
