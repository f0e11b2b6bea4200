"""The event feed: the platform pulls events, or has them delivered."""
