"""Small tools without a domain word: batching, single flight, caches, compact tables."""
