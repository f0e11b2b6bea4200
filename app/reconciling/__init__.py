"""Whether Redis, PostgreSQL and what players know agree, child by child."""
