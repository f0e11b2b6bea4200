"""Flow 1: a player's heartbeat, from the request to the answer."""
