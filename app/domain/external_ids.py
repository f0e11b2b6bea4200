"""Ids that the platform gives: any printable text of at most 255 characters, and how they stand beside ours.

Ours are UUIDs. A platform's id that is a UUID becomes ours, unless an account or profile of that id was erased. So a
UUID names at most one account and at most one profile of the deployment, whatever its origin, and needs no look-up.
"""

import re

MAX_EXTERNAL_ID = 255
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_LENGTH = 36


def is_uuid(given: str) -> bool:
    """Whether an id is a UUID as we spell it."""
    return len(given) == _UUID_LENGTH and _UUID.fullmatch(given) is not None


def canonical(given: str) -> str:
    """The one spelling of an id: a UUID in small letters, anything else as it is."""
    if len(given) == _UUID_LENGTH and not is_uuid(given) and is_uuid(given.lower()):
        return given.lower()
    return given


def is_acceptable(given: str) -> bool:
    """Whether a text may be the id of an account or profile."""
    return 0 < len(given) <= MAX_EXTERNAL_ID and given.isprintable() and bool(given.strip())
