"""Notices when Redis has come back with an older state than PostgreSQL has rows of."""
