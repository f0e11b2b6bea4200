"""Usage and shared policy copies in Redis or Valkey. ``keys`` lists every key."""
