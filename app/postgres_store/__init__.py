"""Policy and flushed usage in PostgreSQL. ``tables`` lists every table."""
