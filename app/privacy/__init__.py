"""Retention, export and erasure of what concerns a child."""
