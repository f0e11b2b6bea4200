"""``hourglass bench``: what the service carries, beside what it is judged by, on servers of its own.

One run prepares viewers (rows in PostgreSQL, a token each), starts the service, and lets the parts (``parts/``)
measure: each is a function from the stage to figures. ``rivals/`` holds what the heartbeat is compared with.
"""
