"""The platform tells of its accounts and profiles, under its own ids."""
