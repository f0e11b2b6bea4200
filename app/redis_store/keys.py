"""Every key, its type and its life.

Profiles spread over buckets; all keys of a bucket share the hash tag ``{b}`` and so one slot of a cluster.

==========================  ======  ===================================================================================
key                         type    holds; life
==========================  ======  ===================================================================================
``hg:{b}:live:<profile>``   string  the child's counters (``domain.accounting.Live`` as a MessagePack array). No expiry
                                    while anything in it is unflushed; ``live_ttl_seconds`` once PostgreSQL has it.
``hg:{b}:dirty``            zset    profiles with unflushed counters, by the instant (ms) they first became dirty.
``hg:{b}:closed``           hash    finished sessions and days: ``<profile>|<session>|<day>`` → ``Live`` as it stood at
                                    the end. A field leaves only when PostgreSQL has it.
``hg:{b}:mark``             hash    ``watermark`` and ``generation``: up to where the flush has come, and how many times
                                    this server came back with an older state (``domain.watermark``).
``hg:{b}:policy:<profile>`` string  shared copy of a policy (``domain.policy.Policy``), ``shared_policy_ttl_seconds``.
``hg:{b}:sessions:<profile>`` zset  ``<session>|<device type>|<title>`` of an adult's running sessions, where adults are
                                    tracked, by the instant (ms) of the last beat. Bounded; ``max_gap_seconds``.
``hg:{b}:events:<profile>`` stream  a player's events, bounded, one day.
``hg:{a:<account>}:``
``   tries:<kind>``         list    instants (ms) of the last wrong PINs or passwords, for as long as a lock may last.
``   unlocks``              zset    digests of the account's ``pin_token``s, by the instant (ms) they end; so long.
``   rate:<quota>:<token>`` string  the instant (ms) at which a quota of requests is whole again; until then. The digest
                                    of the token is left out where the quota is the account's.
``hg:invalidate``           channel ``policy:<profile>:<version>``, ``titles``, ``device:<id>``, ``account:<id>``,
                                    ``erased:<profile>``: what processes drop.
``hg:probe``                channel nothing, to nobody: whether the server answers.
==========================  ======  ===================================================================================
"""

import zlib

INVALIDATE = "hg:invalidate"
PROBE = "hg:probe"
PROFILE_ID_LENGTH = 36


class Keys:
    """Key names of one deployment. The number of buckets is fixed for its life."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def bucket(self, profile_id: str) -> int:
        return zlib.crc32(profile_id.encode()) % self.buckets

    def live(self, profile_id: str) -> str:
        return self.live_in(self.bucket(profile_id), profile_id)

    def live_in(self, bucket: int, profile_id: str) -> str:
        return f"hg:{{{bucket}}}:live:{profile_id}"

    def any_live(self) -> str:
        """A pattern for everybody's counters."""
        return "hg:{*}:live:*"

    def policy(self, profile_id: str) -> str:
        return self.policy_in(self.bucket(profile_id), profile_id)

    def policy_in(self, bucket: int, profile_id: str) -> str:
        return f"hg:{{{bucket}}}:policy:{profile_id}"

    def events(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:events:{profile_id}"

    def sessions(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:sessions:{profile_id}"

    def dirty(self, bucket: int) -> str:
        return f"hg:{{{bucket}}}:dirty"

    def closed(self, bucket: int) -> str:
        return f"hg:{{{bucket}}}:closed"

    def mark(self, bucket: int) -> str:
        return f"hg:{{{bucket}}}:mark"


def tries(subject_id: str, kind: str) -> str:
    return f"hg:{{a:{subject_id}}}:tries:{kind}"


def rate(account_id: str, quota: str, holder: str) -> str:
    return f"hg:{{a:{account_id}}}:rate:{quota}:{holder}"


def unlocks(account_id: str) -> str:
    return f"hg:{{a:{account_id}}}:unlocks"
