# cython: language_level=3
"""The native module for ordinary heartbeats: from the bytes of a request to its answer, without Python objects in between.

Its twin is the Python code behind ``HeartbeatEndpoint.begin``, ``BeatCall`` and ``ViewingService.try_fast_response``. It
decides nothing unusual: what it does not take goes to that code, and a beat that turns out to be unusual goes back.
"""

from time import perf_counter
from zlib import crc32

from app.domain.counters import Outcome, Status
from app.domain.markets import ENFORCE
from app.domain.policy import UNLIMITED
from app.kit.batching import Overloaded
from app.observability import metrics
from app.redis_store.beat_calls import BeatCall, decode_answer
from app.timestamps import rfc3339
from app.viewing.schemas import MAX_WATCHED_SECONDS

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyObject_Hash
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.math cimport rint
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, strlen

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

LAYOUT = "87dc2876ccd70ab1"
"""Digest of the layouts that this module was written for; ``app/native/__init__.py`` compares it."""

cdef enum:
    MAX_READ_BYTES = 8_192
    MAX_HEAD_BYTES = 2_048
    MAX_ID = 36
    MAX_TITLE = 64
    MAX_DEVICE = 100
    MAX_WARNINGS = 8
    MAX_BOUNDS = 32
    MAX_FACTS = 4_096
    DIGEST_BYTES = 16
    LOOK_MS = 1_000
    MINUTE_MS = 60_000
    TEXT_OF_INSTANT = 24

cdef int64_t LARGEST_MS = 1_000_000_000_000
"""No length of time comes near it: thirty years."""
cdef int64_t YEAR_10000_MS = 253_402_300_800_000
cdef int64_t _NO_LIMIT = UNLIMITED
cdef double _MAX_WATCHED_SECONDS = MAX_WATCHED_SECONDS
cdef int _OK = Status.OK
cdef double[7] _POWERS
_POWERS[:] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0]


# --- the bytes of a request

cdef struct Text:
    const char *at
    Py_ssize_t size


cdef struct Fields:
    Text profile_id
    Text title_id
    Text device_id
    Text device_type
    Text session_id
    int64_t watched_ms


cdef struct Bearer:
    Text account_id
    Text device_id
    Text sign_in_id
    int64_t expires_s


cdef inline str _ascii(Text text):
    return PyUnicode_DecodeASCII(text.at, text.size, NULL)


cdef inline bint _is(Text text, const char *other) noexcept nogil:
    cdef Py_ssize_t size = strlen(other)
    return text.size == size and memcmp(text.at, other, size) == 0


cdef inline bint _begins(const char *at, const char *end, const char *other) noexcept nogil:
    cdef Py_ssize_t size = strlen(other)
    return end - at >= size and memcmp(at, other, size) == 0


cdef inline bint _is_of_token(char c) noexcept nogil:
    return (
        b"0" <= c <= b"9" or b"A" <= c <= b"Z" or b"a" <= c <= b"z"
        or c == b"." or c == b"_" or c == b"~" or c == b"+" or c == b"/" or c == b"=" or c == b"-"
    )


cdef bint _find_authorization(const char *at, const char *end, Text *found) noexcept nogil:
    """As ``known_heads._BEARER.search``: the value of the first field of this form."""
    cdef const char *value
    cdef const char *token
    while True:
        at = <const char *>memchr(at, b"\r", end - at)
        if at == NULL:
            return False
        at += 1
        if not (_begins(at, end, b"\nauthorization: Bearer ") or _begins(at, end, b"\nAuthorization: Bearer ")):
            continue
        value = at + strlen(b"\nauthorization: ")
        token = value + strlen(b"Bearer ")
        found.at = value
        value = token
        while value < end and _is_of_token(value[0]):
            value += 1
        if value > token and _begins(value, end, b"\r\n"):
            found.size = value - found.at
            return True


cdef const char *_after_head(const char *at, const char *end) noexcept nogil:
    """Behind the next empty line; NULL without one."""
    while True:
        at = <const char *>memchr(at, b"\r", end - at)
        if at == NULL:
            return NULL
        if _begins(at, end, b"\r\n\r\n"):
            return at + 4
        at += 1


cdef inline const char *_skip_space(const char *at, const char *end) noexcept nogil:
    while at < end and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    return at


cdef const char *_read_text(const char *at, const char *end, Text *into) noexcept nogil:
    """Read printable ASCII in quotation marks. Returns where it ends; NULL if it is anything else."""
    cdef uint8_t c
    if at >= end or at[0] != b'"':
        return NULL
    at += 1
    into.at = at
    while at < end:
        c = <uint8_t>at[0]
        if c == b'"':
            into.size = at - into.at
            return at + 1
        if c < 0x20 or c > 0x7E or c == b"\\":
            return NULL
        at += 1
    return NULL


cdef const char *_read_watched(const char *at, const char *end, int64_t *into) noexcept nogil:
    """Read a number of seconds as whole milliseconds, rounded as Python does. NULL for an unusual number."""
    cdef const char *first = at
    cdef int64_t digits = 0
    cdef int places = 0
    cdef double seconds
    while at < end and b"0" <= at[0] <= b"9":
        if at - first == 8:
            return NULL
        digits = 10 * digits + (at[0] - 48)
        at += 1
    if at == first or (first[0] == b"0" and at - first > 1):
        return NULL
    if at < end and at[0] == b".":
        at += 1
        while at < end and b"0" <= at[0] <= b"9":
            if places == 6:
                return NULL
            digits = 10 * digits + (at[0] - 48)
            places += 1
            at += 1
        if places == 0:
            return NULL
    seconds = <double>digits / _POWERS[places]
    if seconds > _MAX_WATCHED_SECONDS:
        return NULL
    into[0] = <int64_t>rint(seconds * 1000.0)
    return at


cdef const char *_read_field(const char *at, const char *end, Text name, Fields *into) noexcept nogil:
    """Read the value of one field. Returns where it ends; NULL if an ordinary heartbeat does not say that, or twice."""
    cdef Text *text = NULL
    if _is(name, b"profile_id"):
        text = &into.profile_id
    elif _is(name, b"title_id"):
        text = &into.title_id
    elif _is(name, b"device_id"):
        text = &into.device_id
    elif _is(name, b"device_type"):
        text = &into.device_type
    elif _is(name, b"session_id"):
        text = &into.session_id
    if text != NULL:
        if text.at != NULL:
            return NULL
        return _read_text(at, end, text)
    if _is(name, b"watched_seconds") and not _begins(at, end, b"null"):
        if into.watched_ms >= 0:
            return NULL
        return _read_watched(at, end, &into.watched_ms)
    if _is(name, b"is_paused") or _is(name, b"lease"):
        return at + 5 if _begins(at, end, b"false") else NULL
    if _is(name, b"watched_seconds") and into.watched_ms >= 0:
        return NULL
    if _is(name, b"watched_seconds") or _is(name, b"position_seconds") or _is(name, b"title_remaining_seconds"):
        return at + 4 if _begins(at, end, b"null") else NULL
    return NULL


cdef bint _read_fields(const char *at, const char *end, Fields *into) noexcept nogil:
    """Read the body of an ordinary heartbeat: its session goes on, and nothing else is asked for."""
    cdef Text name
    into.profile_id.at = into.title_id.at = into.device_id.at = into.device_type.at = into.session_id.at = NULL
    into.watched_ms = -1
    at = _skip_space(at, end)
    if at >= end or at[0] != b"{":
        return False
    at += 1
    while True:
        at = _read_text(_skip_space(at, end), end, &name)
        if at == NULL:
            return False
        at = _skip_space(at, end)
        if at >= end or at[0] != b":":
            return False
        at = _read_field(_skip_space(at + 1, end), end, name, into)
        if at == NULL:
            return False
        at = _skip_space(at, end)
        if at >= end or (at[0] != b"," and at[0] != b"}"):
            return False
        at += 1
        if at[-1] == b"}":
            break
    if _skip_space(at, end) != end:
        return False
    if into.device_type.at == NULL:
        into.device_type.at = b"web"
        into.device_type.size = 3
    return (
        into.profile_id.at != NULL and into.profile_id.size == MAX_ID
        and into.session_id.at != NULL and into.session_id.size == MAX_ID
        and into.title_id.at != NULL and 1 <= into.title_id.size <= MAX_TITLE
        and into.device_id.at != NULL and 1 <= into.device_id.size <= MAX_DEVICE
        and (_is(into.device_type, b"tv") or _is(into.device_type, b"mobile") or _is(into.device_type, b"tablet")
             or _is(into.device_type, b"web"))
    )


cdef const uint8_t *_read_packed_text(const uint8_t *at, const uint8_t *end, Text *into) noexcept nogil:
    """Read MessagePack text of at most 255 bytes, or nil as no text."""
    into.at = NULL
    into.size = 0
    if at >= end:
        return NULL
    if at[0] == 0xC0:
        return at + 1
    if 0xA0 <= at[0] <= 0xBF:
        into.size = at[0] - 0xA0
        at += 1
    elif at[0] == 0xD9 and end - at >= 2:
        into.size = at[1]
        at += 2
    else:
        return NULL
    into.at = <const char *>at
    return at + into.size if end - at >= into.size else NULL


cdef bint _read_bearer(const uint8_t *at, Py_ssize_t size, Bearer *into) noexcept nogil:
    """Read a packed ``Principal`` that may send heartbeats: a household's or a parent's."""
    cdef const uint8_t *end = at + size
    cdef Text role
    cdef int left
    if size < 1 or at[0] != 0x95:
        return False
    at = _read_packed_text(at + 1, end, &into.account_id)
    if at == NULL or into.account_id.at == NULL:
        return False
    at = _read_packed_text(at, end, &role)
    if at == NULL or role.at == NULL or not (_is(role, b"household") or _is(role, b"parent")) or at >= end:
        return False
    left = 4 if at[0] == 0xCE else 8 if at[0] == 0xCF else 0
    if left == 0 or end - at < left + 1:
        return False
    into.expires_s = 0
    at += 1
    while left:
        into.expires_s = (into.expires_s << 8) | at[0]
        if into.expires_s > YEAR_10000_MS:
            return False
        at += 1
        left -= 1
    at = _read_packed_text(at, end, &into.device_id)
    if at == NULL:
        return False
    return _read_packed_text(at, end, &into.sign_in_id) == end


# --- what is written

cdef inline char *_put(char *at, const char *text) noexcept nogil:
    cdef Py_ssize_t size = strlen(text)
    memcpy(at, text, size)
    return at + size


cdef inline char *_put_text(char *at, Text text) noexcept nogil:
    memcpy(at, text.at, text.size)
    return at + text.size


cdef char *_put_number(char *at, int64_t value) noexcept nogil:
    """A number that is not negative."""
    cdef char[20] digits
    cdef int count = 0
    while True:
        digits[count] = <char>(48 + value % 10)
        count += 1
        value //= 10
        if value == 0:
            break
    while count:
        count -= 1
        at[0] = digits[count]
        at += 1
    return at


cdef char *_put_padded(char *at, int64_t value, int count) noexcept nogil:
    cdef int place
    for place in range(count - 1, -1, -1):
        at[place] = <char>(48 + value % 10)
        value //= 10
    return at + count


cdef char *_put_decimal(char *at, int64_t value, int places) noexcept nogil:
    """A float of so many decimal places, as short as JSON has it: ``1.5``, ``2.0``."""
    cdef int64_t unit = 1000 if places == 3 else 100
    at = _put_number(at, value // unit)
    at[0] = b"."
    at = _put_padded(at + 1, value % unit, places)
    while at[-1] == b"0" and at[-2] != b".":
        at -= 1
    return at


cdef inline char *_put_minutes(char *at, int64_t length_ms) noexcept nogil:
    """As ``timestamps.minutes``."""
    return _put_decimal(at, (length_ms + 300) // 600, 2)


cdef char *_put_instant(char *at, int64_t at_ms) noexcept nogil:
    """As ``timestamps.rfc3339``, from 1970 to 9999: the date by days from 0000-03-01, in eras of 400 years."""
    cdef int64_t days = at_ms // 86_400_000 + 719_468
    cdef int64_t ms = at_ms % 86_400_000
    cdef int64_t era = days // 146_097
    cdef int64_t day_of_era = days % 146_097
    cdef int64_t year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    cdef int64_t day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    cdef int64_t month = (5 * day_of_year + 2) // 153
    cdef int64_t day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += 400 * era + (1 if month <= 2 else 0)
    at = _put_padded(at, year, 4)
    at = _put_padded(_put(at, b"-"), month, 2)
    at = _put_padded(_put(at, b"-"), day, 2)
    at = _put_padded(_put(at, b"T"), ms // 3_600_000, 2)
    at = _put_padded(_put(at, b":"), ms // 60_000 % 60, 2)
    at = _put_padded(_put(at, b":"), ms // 1000 % 60, 2)
    at = _put_padded(_put(at, b"."), ms % 1000, 3)
    return _put(at, b"Z")


cdef uint8_t *_pack_number(uint8_t *at, int64_t value) noexcept nogil:
    """A number from -1 on, as MessagePack."""
    cdef int count
    if value < 128:
        at[0] = <uint8_t>value if value >= 0 else 0xFF
        return at + 1
    if value < (1 << 8):
        at[0] = 0xCC
        count = 1
    elif value < (1 << 16):
        at[0] = 0xCD
        count = 2
    elif value < (<int64_t>1 << 32):
        at[0] = 0xCE
        count = 4
    else:
        at[0] = 0xCF
        count = 8
    at += 1
    while count:
        count -= 1
        at[0] = <uint8_t>(value >> (8 * count))
        at += 1
    return at


cdef uint8_t *_pack_text(uint8_t *at, Text text) noexcept nogil:
    """Text of at most 255 bytes, as MessagePack."""
    if text.size < 32:
        at[0] = <uint8_t>(0xA0 + text.size)
        at += 1
    else:
        at[0] = 0xD9
        at[1] = <uint8_t>text.size
        at += 2
    memcpy(at, text.at, text.size)
    return at + text.size


# --- what is known of a policy

@cython.final
cdef class _Facts:
    """The numbers of an effective policy whose beats may be ordinary."""

    cdef object effective, days
    cdef bint is_plain, is_exempt
    cdef int64_t ends_ms, allowance_ms, next_allowance_ms, offline_used_ms, day_number, config_version
    cdef int warnings
    cdef int64_t[MAX_WARNINGS] warning_minutes
    cdef bytes reset_text


cdef _Facts _facts_of(object effective):
    cdef _Facts facts = _Facts.__new__(_Facts)
    facts.effective = effective
    try:
        facts.is_plain = _learn(facts, effective)
    except OverflowError:
        facts.is_plain = False
    return facts


cdef bint _learn(_Facts facts, object effective) except -1:
    """Take the numbers over. Answers whether they are all that decides."""
    policy, facts.days = effective.policy, effective.days
    has_rules = (
        effective.opening_hours is not None
        or effective.weekly is not None
        or effective.breaks is not None
        or effective.closed is not None
    )
    if has_rules or not policy.is_kids or not facts.days or effective.enforcement != ENFORCE or policy.synced:
        return False
    if len(policy.warning_minutes) > MAX_WARNINGS:
        return False
    terms = facts.days[-1]
    facts.is_exempt = policy.educational_exempt
    facts.day_number, facts.ends_ms, facts.allowance_ms = terms.number, terms.ends_ms, terms.allowance_ms
    facts.next_allowance_ms, facts.offline_used_ms = effective.next_allowance_ms, effective.offline.used_ms
    facts.config_version = policy.config_version
    facts.warnings = 0
    for minutes in policy.warning_minutes:
        facts.warning_minutes[facts.warnings] = minutes
        if not 0 < facts.warning_minutes[facts.warnings] < 10_000:
            return False
        facts.warnings += 1
    if not (0 <= facts.ends_ms < YEAR_10000_MS and 0 <= facts.config_version < YEAR_10000_MS):
        return False
    facts.reset_text = rfc3339(terms.ends_ms).encode("ascii")
    return (
        _NO_LIMIT <= facts.allowance_ms < LARGEST_MS
        and _NO_LIMIT <= facts.next_allowance_ms < LARGEST_MS
        and 0 <= facts.offline_used_ms < LARGEST_MS
        and len(facts.reset_text) == TEXT_OF_INSTANT
    )


# --- verified tokens

@cython.final
cdef class _Table:
    """Reads a ``CompactTable`` where it is."""

    cdef list buckets
    cdef dict unusual
    cdef Py_ssize_t places, record_bytes

    def __init__(self, table):
        self.buckets, self.unusual = table._buckets, table._unusual
        self.places, self.record_bytes = table._places, table._record_bytes

    cdef bytes find(self, bytes digest):
        """As ``CompactTable.get``. The digest has 16 bytes, and so has that of a record."""
        cdef bytes bucket = self.buckets[PyObject_Hash(digest) % self.places]
        cdef const char *wanted = PyBytes_AS_STRING(digest)
        cdef const char *records = PyBytes_AS_STRING(bucket)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t size = PyBytes_GET_SIZE(bucket)
        while at + self.record_bytes <= size:
            if memcmp(records + at, wanted, DIGEST_BYTES) == 0:
                return PyBytes_FromStringAndSize(records + at + DIGEST_BYTES, self.record_bytes - DIGEST_BYTES)
            at += self.record_bytes
        return self.unusual.get(digest)


# --- metrics

@cython.final
cdef class _Tally:
    """Counts of a histogram until they are published."""

    cdef object histogram
    cdef int bounds
    cdef double[MAX_BOUNDS] bound
    cdef int64_t[MAX_BOUNDS] counts
    cdef double total

    def __init__(self, histogram):
        self.histogram = histogram
        for bound in histogram.bounds[:MAX_BOUNDS]:
            self.bound[self.bounds] = bound
            self.bounds += 1

    cdef void observe(self, double value) noexcept:
        cdef int place = 0
        while place < self.bounds - 1 and self.bound[place] < value:
            place += 1
        self.counts[place] += 1
        self.total += value

    cdef publish(self):
        cdef int place
        self.histogram.add([self.counts[place] for place in range(self.bounds)], self.total)
        for place in range(self.bounds):
            self.counts[place] = 0
        self.total = 0.0


# --- heartbeats

@cython.final
@cython.freelist(256)
cdef class NativeBeat:
    """An ordinary heartbeat under way: what the queue holds, its callback, and the request cycle of its connection."""

    cdef NativeHeartbeats owner
    cdef object connection, known
    cdef _Facts facts
    cdef bytes data
    cdef str profile_id
    cdef Text authorization
    cdef Fields fields
    cdef Py_ssize_t body_starts
    cdef bint is_educational
    cdef double began_seconds
    cdef int64_t policy_version, at_ms, used_ms, counted_ms, total_ms
    cdef public bint response_complete, disconnected, keep_alive

    @property
    def message_event(self):
        """What uvicorn sets when the connection is lost."""
        return self

    def set(self):
        """Nobody waits for it."""

    def __call__(self, outcome, error):
        """Called with the outcome of the beat: itself if it was counted as an ordinary one."""
        try:
            if outcome is not self or not self.answer():
                self.hand_back(self.counted_outcome() if outcome is self else outcome, error)
        except Exception as failure:
            self.fail(failure)
        self.owner = self.connection = self.known = self.facts = self.data = self.profile_id = None

    cdef fail(self, failure):
        """Refuse the beat. It must not raise: the others of its batch are answered after it."""
        try:
            self.hand_back(None, failure)
        except Exception:
            self.connection.transport.close()

    cdef object counted_outcome(self):
        session_id, day_number = _ascii(self.fields.session_id), self.facts.day_number
        return Outcome(
            _OK, self.at_ms, self.at_ms, session_id, self.total_ms, self.used_ms, self.counted_ms, "", day_number
        )

    cdef hand_back(self, outcome, error):
        """Let Python go on."""
        cdef Text text = self.authorization
        reply = self.connection.take_back(
            self, PyBytes_FromStringAndSize(text.at, text.size), self.began_seconds
        )
        self.owner.resume(
            reply,
            body=self.data[self.body_starts:],
            known=self.known,
            effective=self.facts.effective,
            is_educational=bool(self.is_educational),
            outcome=outcome,
            error=error,
        )

    cdef bytes packed(self, int64_t place_of_days):
        """As ``OrdinaryBeat``. The texts have at most 36 + 64 + 100 + 6 bytes."""
        cdef uint8_t[512] buffer
        cdef uint8_t *at = buffer
        at[0] = 0x9A
        at = _pack_number(at + 1, self.policy_version)
        at = _pack_number(at, self.facts.is_exempt)
        at = _pack_number(at, self.facts.is_exempt and self.is_educational)
        at = _pack_number(at, self.fields.watched_ms)
        at = _pack_number(at, place_of_days)
        at = _pack_text(at, self.fields.session_id)
        at = _pack_text(at, self.fields.title_id)
        at = _pack_number(at, self.is_educational)
        at = _pack_text(at, self.fields.device_id)
        at = _pack_text(at, self.fields.device_type)
        return PyBytes_FromStringAndSize(<char *>buffer, at - buffer)

    cdef bint answer(self) except -1:
        """Decide and write the answer. False, and nothing has changed, if Python must decide."""
        cdef NativeHeartbeats owner = self.owner
        cdef _Facts facts = self.facts
        cdef bint is_unlimited = facts.allowance_ms == _NO_LIMIT
        cdef bint is_exempt = self.is_educational and facts.is_exempt
        cdef int64_t remaining_ms = max(0, facts.allowance_ms - self.used_ms)
        if self.known.effective is not facts.effective or not 0 <= self.at_ms < YEAR_10000_MS:
            return False
        if not (0 <= self.used_ms < LARGEST_MS) or (remaining_ms == 0 and not is_unlimited and not is_exempt):
            return False
        if facts.ends_ms + facts.next_allowance_ms >= YEAR_10000_MS or self.at_ms + remaining_ms >= YEAR_10000_MS:
            return False
        owner.confirm(self.known)
        cdef int64_t next_beat_ms = owner.draw_interval_ms()
        cdef int64_t lease_ms = owner.lease_ms
        cdef int64_t stop_at_ms = -1
        cdef int64_t warning = 0
        if not is_unlimited:
            next_beat_ms = min(next_beat_ms, max(1, facts.ends_ms - self.at_ms))
            if not is_exempt:
                next_beat_ms = _next_beat_ms(facts, remaining_ms, next_beat_ms)
                lease_ms = min(remaining_ms, lease_ms)
                warning = _warning(facts, remaining_ms)
                if self.at_ms + remaining_ms < facts.ends_ms:
                    stop_at_ms = self.at_ms + remaining_ms
                elif facts.next_allowance_ms != _NO_LIMIT:
                    stop_at_ms = facts.ends_ms + facts.next_allowance_ms
        owner.counted += 1
        if warning:
            owner.warned += 1
        # --- the answer, at most 36 bytes of an id and 16 numbers
        cdef char[1024] body
        cdef char *at = _put(body, b'{"session_id":"')
        at = _put_text(at, self.fields.session_id)
        at = _put(at, b'","enforcement":"')
        at = _put_number(_put(at, b"warning_"), warning) if warning else _put(at, b"allowed")
        at = _put(at, b'","remaining_seconds":')
        at = _put(at, b"null") if is_unlimited else _put_decimal(at, remaining_ms, 3)
        at = _put_decimal(_put(at, b',"used_seconds":'), self.used_ms + facts.offline_used_ms, 3)
        at = _put(at, b',"remaining_minutes":')
        at = _put(at, b"null") if is_unlimited else _put_minutes(at, remaining_ms)
        at = _put_minutes(_put(at, b',"used_minutes":'), self.used_ms + facts.offline_used_ms)
        at = _put(at, b',"is_educational":true') if self.is_educational else _put(at, b',"is_educational":false')
        at = _put(at, b',"stop_at":')
        at = _put(at, b"null") if stop_at_ms < 0 else _put(_put_instant(_put(at, b'"'), stop_at_ms), b'"')
        at = _put_decimal(_put(at, b',"next_beat_in":'), next_beat_ms, 3)
        at = _put_decimal(_put(at, b',"lease_seconds":'), lease_ms, 3)
        at = _put(at, b',"next_reset_at":"')
        memcpy(at, PyBytes_AS_STRING(facts.reset_text), TEXT_OF_INSTANT)
        at = _put_instant(_put(at + TEXT_OF_INSTANT, b'","server_time":"'), self.at_ms)
        at = _put_number(_put(at, b'","config_version":'), facts.config_version)
        at = _put(at, b',"reason":null') if stop_at_ms < 0 else _put(at, b',"reason":"daily_limit"')
        at = _put(at, b',"available_again_at":null}')
        self.write(body, at - body)
        return True

    cdef write(self, const char *body, Py_ssize_t size):
        """As ``FastRequest.answer``."""
        cdef double seconds = perf_counter() - self.began_seconds
        connection = self.connection
        self.owner.observe_answer(seconds)
        if self.response_complete:
            return
        self.response_complete = True
        transport = connection.transport
        if self.disconnected or transport.is_closing():
            return
        cdef bytes head = connection.success
        cdef char[64] middle
        cdef char *at = _put(_put_number(middle, size), b"\r\n")
        at = _put(at, b"\r\n") if self.keep_alive else _put(at, b"connection: close\r\n\r\n")
        cdef Py_ssize_t head_size = PyBytes_GET_SIZE(head)
        cdef Py_ssize_t middle_size = at - middle
        cdef bytes response = PyBytes_FromStringAndSize(NULL, head_size + middle_size + size)
        at = PyBytes_AS_STRING(response)
        memcpy(at, PyBytes_AS_STRING(head), head_size)
        memcpy(at + head_size, middle, middle_size)
        memcpy(at + head_size + middle_size, body, size)
        transport.write(response)
        if not self.keep_alive:
            transport.close()
        connection.on_response_complete()


cdef int64_t _next_beat_ms(_Facts facts, int64_t remaining_ms, int64_t next_beat_ms) noexcept:
    """As ``enforcement._next_beat_ms``."""
    cdef int place
    cdef int64_t to_threshold_ms
    for place in range(facts.warnings):
        to_threshold_ms = remaining_ms - facts.warning_minutes[place] * MINUTE_MS
        if 0 < to_threshold_ms < next_beat_ms:
            next_beat_ms = to_threshold_ms
    return remaining_ms if 0 < remaining_ms < next_beat_ms else next_beat_ms


cdef int64_t _warning(_Facts facts, int64_t remaining_ms) noexcept:
    """As ``enforcement.enforcement_of``: the smallest threshold reached, 0 for none."""
    cdef int place
    cdef int64_t reached = 0
    cdef int64_t minutes
    for place in range(facts.warnings):
        minutes = facts.warning_minutes[place]
        if remaining_ms <= minutes * MINUTE_MS and (reached == 0 or minutes < reached):
            reached = minutes
    return reached


@cython.final
cdef class NativeHeartbeats:
    """Takes reads that are one ordinary heartbeat, and answers them.

    Args:
        tokens: the cache of verified tokens.
        policies, titles: the caches of policies and titles.
        queue: gets each beat with its callback; raises Overloaded.
        randomness: draws intervals.
        interval_ms, lease_ms: of ``HeartbeatTiming``.
        resume: ``HeartbeatEndpoint.resume``.
        answered: the histogram of answered heartbeats.
    """

    cdef object tokens, policies, wall, monotonic, is_revoked, enqueue, random, resume, sha256
    cdef dict known_policies, known_titles, facts_of
    cdef object young
    cdef _Table signed_in, others
    cdef int64_t interval_ms, lease_ms, fresh_until_ms
    cdef object confirmed_until_ms
    cdef int64_t found_in_memory, counted, warned, late
    cdef double late_seconds
    cdef _Tally seconds, ages

    def __init__(self, *, tokens, policies, titles, queue, randomness, interval_ms, lease_ms, resume, answered):
        from hashlib import sha256

        self.tokens, self.policies, self.resume, self.sha256 = tokens, policies, resume, sha256
        self.wall, self.monotonic = tokens._clock, titles._clock
        self.is_revoked = tokens._is_revoked
        self.known_policies, self.known_titles = policies._known, titles._entries
        self.facts_of = {}
        self.enqueue, self.random = queue, randomness.random
        self.interval_ms, self.lease_ms = interval_ms, lease_ms
        self.late_seconds = metrics.LATE_SECONDS
        self.seconds, self.ages = _Tally(answered), _Tally(metrics.POLICY_AGE_AT_USE)

    def publish(self):
        """Add what was counted to the metrics that Python counts."""
        metrics.FOUND_IN_MEMORY.count += self.found_in_memory
        metrics.COUNTED_BEATS.count += self.counted
        metrics.DECIDED["warning"].count += self.warned
        metrics.DECIDED["allowed"].count += self.counted - self.warned
        metrics.LATE_BEATS.count += self.late
        self.found_in_memory = self.counted = self.warned = self.late = 0
        self.seconds.publish()
        self.ages.publish()

    def take(self, connection, data):
        """Queue a read that is one ordinary heartbeat. Answers whether it did; if not, nothing has changed."""
        cdef Text authorization
        cdef Fields fields
        if type(data) is not bytes:
            return False
        cdef const char *start = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const char *end = start + size
        if size > MAX_READ_BYTES or not _find_authorization(start, end, &authorization):
            return False
        cdef const char *body = _after_head(authorization.at + authorization.size, end)
        if body == NULL or not self.is_known(connection, start, authorization, body, end):
            return False
        cdef double began_seconds = perf_counter()
        if not _read_fields(body, end, &fields):
            return False
        profile_id = _ascii(fields.profile_id)
        known = self.known_policies.get(profile_id)
        if known is None:
            return False
        cdef _Facts facts = self.facts(known.effective)
        if not facts.is_plain or not known.fresh_until_ms or not self.is_admitted(authorization, known.account_id):
            return False
        title = self.known_titles.get(_ascii(fields.title_id))
        if title is None:
            return False
        is_educational = title.value
        if not isinstance(is_educational, bool) or not self.monotonic() < title.fresh_until_ms:
            return False
        cdef NativeBeat beat = NativeBeat.__new__(NativeBeat)
        beat.owner, beat.connection, beat.known, beat.facts = self, connection, known, facts
        beat.data, beat.profile_id = data, profile_id
        beat.authorization, beat.fields = authorization, fields
        beat.body_starts = body - start
        beat.is_educational = is_educational
        beat.policy_version = known.version
        beat.began_seconds = began_seconds
        beat.keep_alive = True
        if not 0 <= beat.policy_version < YEAR_10000_MS:
            return False
        try:
            self.enqueue(beat, beat)
        except Overloaded:
            return False
        connection.begin(beat)
        self.found_in_memory += 1
        return True

    cdef bint is_known(self, connection, const char *start, Text authorization, const char *body, const char *end) except -1:
        """As ``KnownHeads.find``: the head is known but for the token, and the read ends with its body."""
        cdef Py_ssize_t before = authorization.at - start
        cdef Py_ssize_t after = body - (authorization.at + authorization.size)
        if before + after > MAX_HEAD_BYTES:
            return False
        cdef bytes head = PyBytes_FromStringAndSize(NULL, before + after)
        memcpy(PyBytes_AS_STRING(head), start, before)
        memcpy(PyBytes_AS_STRING(head) + before, authorization.at + authorization.size, after)
        cdef dict heads = connection.known_heads.body_bytes_of
        body_bytes = heads.get(head)
        return body_bytes is not None and <Py_ssize_t>body_bytes == end - body

    cdef _Facts facts(self, effective):
        """The facts of an effective policy. Few are kept, so that policies that nobody uses any more do not stay."""
        key = PyLong_FromVoidPtr(<void *>effective)
        cdef _Facts facts = self.facts_of.get(key)
        if facts is not None:
            return facts
        if len(self.facts_of) >= MAX_FACTS:
            self.facts_of.clear()
        facts = self.facts_of[key] = _facts_of(effective)
        return facts

    cdef bint is_admitted(self, Text authorization, account_id) except -1:
        """As ``TokenCache.principal_of``, for a token that was verified and is still valid, of this account."""
        cdef Bearer bearer
        cdef int64_t at_ms = self.wall()
        cdef int64_t looked_ms = self.tokens._looked_ms
        cdef Py_ssize_t size = 0
        if not 0 <= at_ms - looked_ms < LOOK_MS:
            return False
        young = self.tokens._young
        if young is not self.young:
            self.young, self.signed_in, self.others = young, _Table(young._signed_in), _Table(young._others)
        digest = self.sha256(PyBytes_FromStringAndSize(authorization.at, authorization.size)).digest()[:DIGEST_BYTES]
        cdef bytes packed = self.signed_in.find(digest)
        if packed is None:
            packed = self.others.find(digest)
        if packed is None or not _read_bearer(<const uint8_t *>PyBytes_AS_STRING(packed), len(packed), &bearer):
            return False
        cdef const char *owner = PyUnicode_AsUTF8AndSize(account_id, &size)
        if size != bearer.account_id.size or memcmp(owner, bearer.account_id.at, size) != 0:
            return False
        if bearer.expires_s * 1000 <= at_ms or self.is_revoked(account_id):
            return False
        return not (self.has_ended(bearer.device_id) or self.has_ended(bearer.sign_in_id))

    cdef bint has_ended(self, Text holder_id) except -1:
        return holder_id.at != NULL and self.is_revoked(holder_id.at[:holder_id.size].decode("utf-8"))

    cdef confirm(self, known):
        """As ``PolicyCache.confirm``, by the instant at which the outcomes came."""
        cdef int64_t known_until_ms = known.fresh_until_ms
        if known_until_ms:  # else a newer version became known meanwhile
            self.ages.observe(<double>(self.fresh_until_ms - known_until_ms) / 1000.0)
        known.fresh_until_ms = self.confirmed_until_ms

    cdef int64_t draw_interval_ms(self) except -1:
        """As ``ViewingService._jittered_interval_ms``."""
        cdef double drawn = self.random()
        return <int64_t>(<double>self.interval_ms * (0.9 + 0.2 * drawn))

    cdef void observe_answer(self, double seconds) noexcept:
        self.seconds.observe(seconds)
        if seconds > self.late_seconds:
            self.late += 1

    cdef begin_outcomes(self):
        """The outcomes of a call have come."""
        self.fresh_until_ms, self.confirmed_until_ms = self.policies.confirmation()


class NativeBeatCall(BeatCall):
    """A ``BeatCall`` that takes native beats too."""

    def _add_all(self, beats, names, generations):
        cdef dict place_of = {}
        cdef list bucket_keys = []
        cdef list keys = self.keys, lengths = self.lengths, places = self.places, packed = self._packed
        cdef dict place_of_days = self._place_of_days
        cdef bytes bytes_of_beat
        cdef list prefixes = names._live
        cdef str profile_id
        buckets = names.buckets
        for beat in beats:
            is_native = type(beat) is NativeBeat
            profile_id = (<NativeBeat>beat).profile_id if is_native else beat[0]
            bucket = crc32(profile_id.encode()) % buckets
            place = place_of.get(bucket)
            if place is None:
                place = place_of[bucket] = len(beats) + len(bucket_keys) + 1
                bucket_keys += names.unflushed(bucket)
            keys.append(prefixes[bucket] + profile_id)
            places.append(place)
            self.generations.append(generations[bucket])
            if not is_native:
                self._add(beat[1])
                continue
            days = (<NativeBeat>beat).facts.days
            place = place_of_days.get(id(days))
            if place is None:
                place = self._place(days)
            bytes_of_beat = (<NativeBeat>beat).packed(place)
            lengths.append(-PyBytes_GET_SIZE(bytes_of_beat))
            packed.append(bytes_of_beat)
        keys += bucket_keys
        self.buckets = list(place_of)

    def outcomes(self, answer):
        """The outcomes in the answer of the script; a native beat that was counted as an ordinary one is its own."""
        found = decode_answer(answer)
        cdef list figures = found.figures, others = found.others
        cdef list outcomes = []
        cdef Py_ssize_t place = 0, other = 0
        cdef int64_t at_ms = found.at_ms
        cdef NativeBeat native
        owner = None
        if len(figures) != 3 * len(self._beats):
            raise ValueError("the script has answered another number of beats")
        for beat in self._beats:
            if figures[3 * place] < 0:
                outcomes.append(others[other])
                other += 1
            elif type(beat) is NativeBeat:
                native = <NativeBeat>beat
                native.at_ms, native.used_ms = at_ms, figures[3 * place]
                native.counted_ms, native.total_ms = figures[3 * place + 1], figures[3 * place + 2]
                if native.owner is not owner:
                    owner = native.owner
                    native.owner.begin_outcomes()
                outcomes.append(native)
            else:
                ordinary = beat[1]
                outcomes.append(
                    Outcome(
                        _OK, at_ms, at_ms, ordinary.session_id, figures[3 * place + 2], figures[3 * place],
                        figures[3 * place + 1], "", ordinary.days[-1].number,
                    )
                )
            place += 1
        if self._week_left_ms or found.unbroken_ms:
            self._add_rules(outcomes, found)
        return outcomes
