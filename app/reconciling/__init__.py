"""Compare Redis, PostgreSQL and the players' ledgers child by child."""
