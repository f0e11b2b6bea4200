"""Short values by digest, in tables too large for one Python object per entry."""

DIGEST_BYTES = 16
_RECORDS_IN_BUCKET = 4


class CompactTable:
    """Bytes by digest, as in a ``dict``, in half the memory if values have the usual length.

    A digest and its value are one record. The records of a bucket are one ``bytes``.

    Args:
        size: expected number of entries. More entries make the table slower.
        usual_bytes: length of most values. Values of another length are kept in a ``dict``.
    """

    def __init__(self, size: int, *, usual_bytes: int) -> None:
        self._usual_bytes = usual_bytes
        self._record_bytes = DIGEST_BYTES + usual_bytes
        self._places = size // _RECORDS_IN_BUCKET + 1
        self._buckets = [b""] * self._places
        self._usual = 0
        self._unusual: dict[bytes, bytes] = {}

    def get(self, digest: bytes) -> bytes | None:
        bucket = self._buckets[hash(digest) % self._places]
        at = bucket.rfind(digest)
        while at % self._record_bytes:  # not where a record begins
            if at < 0:
                return self._unusual.get(digest)
            at = bucket.rfind(digest, 0, at + DIGEST_BYTES - 1)
        return bucket[at + DIGEST_BYTES : at + self._record_bytes]

    def add(self, digest: bytes, value: bytes) -> None:
        """Remember a value under a digest that has none yet."""
        if len(value) == self._usual_bytes:
            self._buckets[hash(digest) % self._places] += digest + value
            self._usual += 1
        else:
            self._unusual[digest] = value

    def __len__(self) -> int:
        return self._usual + len(self._unusual)
