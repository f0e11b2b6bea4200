"""The titles of the platform, of which we need to know which are educational."""
