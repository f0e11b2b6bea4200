"""Clients of a running service: HTTP, simulated players, the demo household."""
