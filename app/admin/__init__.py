"""What support and operations may read of any account; each reading stands in that account's audit log."""
