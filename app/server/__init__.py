"""The HTTP server around the application: the fast path, health, the documentation page, the worker's port."""
