"""What the workflows behind the chat endpoint do."""
