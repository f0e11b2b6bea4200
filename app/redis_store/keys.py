"""Every key, its type and its life.

Profiles spread over buckets; all keys of a bucket share the hash tag ``{b}`` and so one slot of a cluster.

==========================  ======  ===================================================================================
key                         type    holds; life
==========================  ======  ===================================================================================
``hg:{b}:live:<profile>``   string  the child's counters (``domain.counters.Counters`` as a MessagePack array). No
                                    expiry while anything is unflushed; then ``live_ttl_seconds``.
``hg:{b}:dirty``            zset    profiles with unflushed counters, by the instant (ms) they first became dirty.
``hg:{b}:closed``           hash    the outbox, finished sessions and days: ``<profile>|<session>|<day>`` → ``Counters``
                                    as they stood at the end. A field leaves only when PostgreSQL has it.
``hg:{b}:mark``             hash    ``watermark`` and ``generation``: up to where the flush has come, and how many times
                                    this server came back with an older state (``domain.watermark``).
``hg:{b}:policy:<profile>`` string  shared copy of a policy (``domain.policy.Policy``), ``shared_policy_ttl_seconds``.
``hg:{b}:sessions:<profile>`` zset  ``<session>|<device type>|<title>`` of an adult's running sessions, where adults are
                                    tracked, by the instant (ms) of the last beat. Bounded; ``max_gap_seconds``.
``hg:{b}:position:<profile>`` string  what a player's positions told (``domain.tampering``); only where it
                                    sends them. Ten minutes after the last heartbeat; with a hint, 26 hours.
``hg:{b}:recent:<profile>`` string  a child's most recent events (``lua/append_event.lua``), 190 bytes; one hour.
``hg:{b}:events:<profile>`` stream  the same, of versions before this one; one day. Erasure still removes it.
``hg:{a:<account>}:``
``   attempts:<kind>``      zset    ``w<id>`` of the last wrong PINs or passwords, for as long as a lock may last;
                                    ``r<id>`` of comparisons under way (45 s). By instant (ms).
``   unlocks``              zset    digests of the account's ``pin_token``s, by the instant (ms) they end.
``   rate:<quota>:<token>`` string  the instant (ms) at which a quota of requests is whole again; until then. The digest
                                    of the token is left out where the quota is the account's.
``   web``                  zset    digests of the account's web sessions, by the instant (ms) they began; 181 days.
``hg:{w:<digest>}``         string  a web session of the console (12 hours after its last request) or of a
                                    caregiver (180 days).
``hg:{w:<digest>}:once:<key>`` string  where a form of that session led to, empty while it is handled; 12 hours.
``hg:rewritten``            string  which erasures the append-only files were rewritten after, and by which servers.
``hg:ticket:<digest>``      string  caller and profile of a ticket for an event stream; 60 s, one use.
``hg:invalidate``           channel ``policy:<profile>:<version>``, ``titles``, ``device:<id>``, ``sign-in:<id>``,
                                    ``account:<id>``, ``erased:<profile>``: what processes drop.
``hg:probe``                channel nothing, to nobody: whether the server answers.
==========================  ======  ===================================================================================
"""

import zlib

from redis import crc

INVALIDATE = "hg:invalidate"
PROBE = "hg:probe"
PROFILE_ID_LENGTH = 36


class Keys:
    """Key names of one deployment. The number of buckets is fixed for its life."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self._live = [f"hg:{{{bucket}}}:live:" for bucket in range(buckets)]
        self._slots = [crc.key_slot(b"%d" % bucket) for bucket in range(buckets)]
        self._unflushed = [(f"hg:{{{bucket}}}:dirty", f"hg:{{{bucket}}}:closed") for bucket in range(buckets)]

    def bucket(self, profile_id: str) -> int:
        return zlib.crc32(profile_id.encode()) % self.buckets

    def counters(self, profile_id: str) -> str:
        return self.counters_in(self.bucket(profile_id), profile_id)

    def counters_in(self, bucket: int, profile_id: str) -> str:
        return self._live[bucket] + profile_id

    def any_counters(self) -> str:
        """A pattern that matches the counters of all children."""
        return "hg:{*}:live:*"

    def policy(self, profile_id: str) -> str:
        return self.policy_in(self.bucket(profile_id), profile_id)

    def policy_in(self, bucket: int, profile_id: str) -> str:
        return f"hg:{{{bucket}}}:policy:{profile_id}"

    def events(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:recent:{profile_id}"

    def old_events(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:events:{profile_id}"

    def position(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:position:{profile_id}"

    def sessions(self, profile_id: str) -> str:
        return f"hg:{{{self.bucket(profile_id)}}}:sessions:{profile_id}"

    def dirty(self, bucket: int) -> str:
        return self._unflushed[bucket][0]

    def closed(self, bucket: int) -> str:
        return self._unflushed[bucket][1]

    def unflushed(self, bucket: int) -> tuple[str, str]:
        """The dirty set and the outbox."""
        return self._unflushed[bucket]

    def mark(self, bucket: int) -> str:
        return f"hg:{{{bucket}}}:mark"

    def slot(self, bucket: int) -> int:
        """The slot of a cluster that holds a bucket."""
        return self._slots[bucket]


def rewritten() -> str:
    return "hg:rewritten"


def attempts(subject_id: str, kind: str) -> str:
    return f"hg:{{a:{subject_id}}}:attempts:{kind}"


def rate(account_id: str, quota: str, holder: str) -> str:
    return f"hg:{{a:{account_id}}}:rate:{quota}:{holder}"


def unlocks(account_id: str) -> str:
    return f"hg:{{a:{account_id}}}:unlocks"


def ticket(digest: str) -> str:
    return f"hg:ticket:{digest}"


def web_sessions(account_id: str) -> str:
    return f"hg:{{a:{account_id}}}:web"


def web_session(digest: str) -> str:
    return f"hg:{{w:{digest}}}"


def web_once(digest: str, key: str) -> str:
    return f"hg:{{w:{digest}}}:once:{key}"
