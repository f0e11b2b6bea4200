"""The player SDK: its package (`player/`) and how the service hands it out."""
