"""Fault injection: the service under random faults, with players that keep ledgers.

``deployment`` runs real servers and the real deployment. ``proxy`` is the network between them. ``clients`` are the
players with their ledgers. ``faults`` are the faults, and ``soak`` mixes them by a seed. The tests in ``tests/faults``
use the same parts.
"""
