"""Processes that only keep time and handle signals. The work itself is in functions of the application."""
