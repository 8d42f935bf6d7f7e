"""The HTTP API `/v1`, one module for each resource."""
