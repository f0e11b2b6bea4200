"""Everything a deployment knows in one file, and back again."""
