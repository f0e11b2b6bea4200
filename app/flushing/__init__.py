"""Flow 3: unflushed counters from Redis to PostgreSQL."""
