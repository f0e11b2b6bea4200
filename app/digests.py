"""Short values by digest, for tables of so many entries that objects of their own would be too much."""

DIGEST_BYTES = 16
LONGEST_VALUE = 55
_RECORD = DIGEST_BYTES + 1 + LONGEST_VALUE
_RECORDS_IN_BUCKET = 6


class DigestTable:
    """Bytes by digest, in less than half the memory of a ``dict``: 80 bytes for each entry that is not long.

    A digest, the length of its value and the value, filled up, are one record; the records of a bucket are one
    ``bytes``. The few values longer than ``LONGEST_VALUE`` are kept in a ``dict``.

    Args:
        size: how many entries are expected; more only make it slower.
    """

    def __init__(self, size: int) -> None:
        self._buckets = [b""] * (size // _RECORDS_IN_BUCKET + 1)
        self._short = 0
        self._long: dict[bytes, bytes] = {}

    def get(self, digest: bytes) -> bytes | None:
        bucket = self._buckets[hash(digest) % len(self._buckets)]
        at = bucket.find(digest)
        while at % _RECORD:  # not where a record begins
            if at < 0:
                return self._long.get(digest)
            at = bucket.find(digest, at + 1)
        starts = at + DIGEST_BYTES + 1
        return bucket[starts : starts + bucket[starts - 1]]

    def add(self, digest: bytes, value: bytes) -> None:
        """Remember a value under a digest that has none yet."""
        if len(value) > LONGEST_VALUE:
            self._long[digest] = value
            return
        record = digest + len(value).to_bytes(1) + value.ljust(LONGEST_VALUE)
        self._buckets[hash(digest) % len(self._buckets)] += record
        self._short += 1

    def __len__(self) -> int:
        return self._short + len(self._long)
