"""Hourglass: how long each child really watched, and whether playback may go on."""

__version__ = "0.1.0"
