"""Steps and reports of the workflows behind the chat endpoint."""
