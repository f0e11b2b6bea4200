"""The service, hurt on purpose, beside players who keep accounts.

``stand`` runs real servers and the real deployment; ``proxy`` is the network between them; ``crowd`` watches and keeps
the ledger; ``blows`` are the faults; ``soak`` mixes them by a seed. The tests in ``tests/faults`` use the same parts.
"""
