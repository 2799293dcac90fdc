"""The HTTP and WebSocket API over the read model, and the door for submissions."""
