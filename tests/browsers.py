"""The browsers that tests drive."""

import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""With all that belongs to a window."""
HEADLESS = shutil.which("chromium-headless-shell") or CHROMIUM
"""The shell runs the same engine without a window's toolbar and extensions: a page costs it a third of the time."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
