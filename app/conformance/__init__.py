"""The player conformance kit: golden vectors for client teams, and their replay against a running service.

``scenarios`` says what a household does and when, ``model`` answers from the rule book (``app.domain``) alone, and
``vectors`` joins the two to the document that is published as ``docs/conformance/vectors.json``. ``replay`` sends a
scenario to a service over HTTP, in injected or in real time, and ``matching`` tells where an answer differs.
"""
