"""The composition root: here, and only here, ports meet their adapters.

API processes, the worker and the command line open their services here and close them when they end. Nothing connects
before, nothing stays open after. One module per flow; each opens what it needs and nothing else.
"""
