"""Processes that hold only time and signals; what they do are functions of the application."""
