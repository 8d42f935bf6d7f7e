"""The edges: HTTP and WebSocket, and the hub that pushes to connections."""
