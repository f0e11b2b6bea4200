"""The player conformance kit: golden vectors for client teams, and their replay against a running service.

``scenarios`` lists the calls of a household with their instants. ``model`` answers them from the rules in
``app.domain`` alone. ``vectors`` joins both to the document ``docs/conformance/vectors.json``. ``replay`` sends a
scenario to a service over HTTP, in injected or real time. ``matching`` finds the differences of an answer.
"""
