"""``hourglass bench``: measure the service and its baselines on separate servers.

A run prepares viewers (rows in PostgreSQL, a token each), starts the service, and runs the parts (``parts/``). Each
part is a function from the environment to figures. ``baselines/`` holds the programs that the heartbeat is compared
with.
"""
