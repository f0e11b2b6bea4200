"""Processes on one machine: start, supervise, drain, check."""
