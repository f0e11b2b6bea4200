"""How far PostgreSQL and Redis have come together, bucket by bucket.

Before the flush writes rows of a bucket to PostgreSQL it raises the bucket's watermark in Redis; the rows and the
watermark are then committed together. So whenever the watermark that Redis holds is at least PostgreSQL's, Redis
knows everything that PostgreSQL has. When it is lower, Redis has come back with an older state.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Mark(msgspec.Struct, frozen=True):
    """A bucket's watermark, and how many times Redis came back older than PostgreSQL."""

    watermark: int = 0
    generation: int = 0

    def covers(self, other: "Mark") -> bool:
        return self.watermark >= other.watermark and self.generation >= other.generation


NO_MARKS: Mapping[int, Mark] = MappingProxyType({})


def agreed(found: Mark, *, noted: Mark) -> Mark:
    """What both sides hold from now on, given what Redis was found to hold and what PostgreSQL has noted.

    Where Redis fell behind the generation is raised, so that all counters of older generations are merged with
    PostgreSQL's before they count on.
    """
    generation = max(found.generation, noted.generation)
    if found.watermark < noted.watermark:
        return Mark(noted.watermark, generation + 1)
    return Mark(found.watermark, generation)
