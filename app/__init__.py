"""Hourglass: how long each child really watched, and whether playback may go on."""

__version__ = "1.0.0"
