"""Every code of a problem: when it is answered, what the client does, and which calls answer it.

docs/reference/errors.md and the OpenAPI document are made from this.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from app import errors
from app.errors import HourglassError


class Entry(msgspec.Struct, frozen=True):
    """Two sentences about a code, each plain English for a developer of a client."""

    when: str
    client: str


CATALOGUE: Mapping[str, Entry] = {
    "already_decided": Entry(
        "A parent answers a request that was answered the other way, or whose day is over.",
        "Read the request again and show its status.",
    ),
    "bad_request": Entry("The request breaks HTTP itself.", "Repair the client. Do not repeat the request."),
    "body_timeout": Entry("The body was not complete within 10 seconds.", "Repeat the request on a new connection."),
    "body_too_large": Entry(
        "The body is larger than 64 KiB, or than 8 MiB for batches, offline playback and the catalogue.",
        "Send less at a time. Do not repeat the request.",
    ),
    "budget_exhausted": Entry(
        "A caregiver grants or approves more than `left_minutes`, what its budget has left today.",
        "Offer less, or wait until `renews_at` of the caregiver's own state.",
    ),
    "conflict": Entry(
        "Another caller changed the same thing at the same moment.", "Read the state again and decide anew."
    ),
    "counters_unavailable": Entry(
        "Redis cannot be reached in time. Nothing is guessed.",
        "Go on playing for `lease_seconds` at most, and repeat after `Retry-After`. The next beat credits the gap.",
    ),
    "cursor_expired": Entry(
        "The events after this cursor were removed by age, or the feed was restored from a backup.",
        "Read again without a cursor, and compare what you hold with the service.",
    ),
    "database_unavailable": Entry(
        "PostgreSQL cannot be reached in time.", "Repeat after `Retry-After`, with the same `Idempotency-Key`."
    ),
    "email_taken": Entry("Another account has this e-mail address.", "Offer to sign in, or another address."),
    "event_feed_off": Entry(
        "This deployment does not write the event feed.", "Ask its operator to set `HOURGLASS_EVENT_FEED`."
    ),
    "external_id_taken": Entry(
        "Another account or profile has this id of the platform.", "Use the id under which the service knows it."
    ),
    "forbidden": Entry(
        "The role of the token may not make this call, or there is no such device or sign-in on the account.",
        "Use a token of the right role. Do not repeat the request.",
    ),
    "fresh_sign_in_required": Entry(
        "The call needs the password, or a token of a sign-in at the platform at most five minutes ago.",
        "Let the person sign in again (`max_age=300`), and repeat with the new token.",
    ),
    "hashing_interrupted": Entry(
        "A PIN or password could not be compared. It did not count as a try.", "Repeat after `Retry-After`."
    ),
    "head_too_large": Entry(
        "The head of the request is larger than the server reads.", "Send fewer or shorter headers."
    ),
    "idempotency_key_reused": Entry(
        "The `Idempotency-Key` was used for a request with another body.", "Make a new key for a new request."
    ),
    "identity_unavailable": Entry(
        "The keys of the platform's identity service cannot be fetched.", "Repeat after `Retry-After`."
    ),
    "invalid_input": Entry(
        "A field, parameter or header has a value that is not accepted. `errors` names each place.",
        "Show each detail beside its field. Do not repeat the request as it is.",
    ),
    "locked": Entry(
        "There were five wrong PINs within 30 minutes, or ten wrong passwords within 15.",
        "Say when to try again: `Retry-After` has the seconds.",
    ),
    "malformed": Entry(
        "The body is not JSON in UTF-8, repeats a name, or holds numbers beyond 64 bits.",
        "Repair the client. Do not repeat the request.",
    ),
    "method_not_allowed": Entry("The address has no such method.", "Use a method of the OpenAPI document."),
    "no_config": Entry("The profile is an adult's, which has no limits.", "Hide settings of limits for this profile."),
    "no_pin": Entry("The account has no PIN yet.", "Let a parent set one with the account's password."),
    "no_sign_in": Entry(
        "The token belongs to no sign-in of ours: an identity service or an operator issued it.",
        "Forget the token. It ends when it expires.",
    ),
    "not_found": Entry(
        "There is no such address, grant, request, title or account.", "Read the list again. Do not repeat the request."
    ),
    "pin_required": Entry(
        "The call needs parent rights, and the token alone has those of a household.",
        "Ask for the PIN, verify it, and send `X-PIN-Token`.",
    ),
    "precondition_failed": Entry(
        "The settings have changed since they were read.", "Read them again, show what is there, and save again."
    ),
    "precondition_required": Entry(
        "A change of settings came without `If-Match`.", "Send the `ETag` of the settings that were read."
    ),
    "profile_access_denied": Entry(
        "There is no such profile or session on this account. Whether it exists elsewhere is not said.",
        "Read the profiles again. Do not repeat the request.",
    ),
    "session_ended": Entry(
        "The session has ended, e.g. after five minutes of silence. `by` and `at` may say more.",
        "Open a new session: beat without `session_id`. Time that was watched counts by `watched_seconds`.",
    ),
    "session_superseded": Entry(
        "Another device of the child has taken over. `by` names its type, `at` the instant.",
        "Stop playback and say which device plays. Go on only when the child asks for it.",
    ),
    "still_running": Entry(
        "The first request with this `Idempotency-Key` is still running.", "Repeat after `Retry-After`."
    ),
    "title_unknown": Entry(
        "The catalogue does not hold the title of an opening beat.",
        "Do not play it. The platform's catalogue service must upload it first.",
    ),
    "too_many_devices": Entry("The account has 20 parent devices.", "Let a parent revoke one first."),
    "too_many_profiles": Entry("The account has as many profiles as it may have.", "Let a parent erase one first."),
    "too_many_receivers": Entry("Twenty receivers of webhooks exist.", "Remove one that is no longer used."),
    "too_many_requests": Entry(
        "A quota is used up, too many hashes wait, or the child asked five times today.",
        "Repeat after `Retry-After`, not sooner.",
    ),
    "too_many_streams": Entry(
        "This process serves as many event streams as it may.",
        "Connect again after `Retry-After`; meanwhile the answers to beats tell the same.",
    ),
    "unauthenticated": Entry(
        "The token is missing, damaged, expired or ended. All look the same.",
        "Refresh the tokens once. If that is refused as well, sign in again.",
    ),
    "unexpected": Entry(
        "A defect on our side. `request_id` finds it in the log.",
        "Repeat once after some seconds, then tell the operator the `request_id`.",
    ),
    "unsupported_media_type": Entry(
        "The body is not `application/json`, or not NDJSON where that is accepted.", "Set `Content-Type`."
    ),
    "wrong_credentials": Entry(
        "The e-mail address or the password is wrong. Which of them is not said.", "Let the person try again."
    ),
    "wrong_password": Entry("The account's password is wrong.", "Let the person try again. The token is still good."),
    "wrong_pin": Entry("The PIN is wrong. How many tries remain is not said.", "Let the person try again."),
}
"""By code."""


def kinds() -> dict[str, type[HourglassError]]:
    """Every kind of refusal by its code, in the order of codes."""
    found = {kind.code: kind for kind in _subclasses(HourglassError)} | {HourglassError.code: HourglassError}
    return dict(sorted(found.items()))


def _subclasses(kind: type[HourglassError]) -> Iterator[type[HourglassError]]:
    for below in kind.__subclasses__():
        if below.code != kind.code:  # the same refusal for other reasons is no kind of its own
            yield below
        yield from _subclasses(below)


def page() -> str:
    """docs/reference/errors.md."""
    rows = [
        f"| `{code}` | {kind.status} | {_entry(code).when} | {_entry(code).client} |" for code, kind in kinds().items()
    ]
    return "\n".join([_INTRODUCTION, "| code | status | when | what the client does |", "|---|---|---|---|", *rows, ""])


def _entry(code: str) -> Entry:
    if code not in CATALOGUE:
        raise LookupError(f"{code}: say in app/server/error_catalogue.py when it is answered and what the client does")
    return CATALOGUE[code]


_INTRODUCTION = """\
# Errors

Written by `scripts/documents` from `app/server/error_catalogue.py`. Do not edit it by hand.

Every refusal is a problem (RFC 9457, `application/problem+json`):

```json
{
  "type": "urn:hourglass:problem:invalid_input",
  "title": "The request holds values that are not accepted.",
  "status": 422,
  "detail": "The request holds values that are not accepted.",
  "code": "invalid_input",
  "errors": [{"pointer": "/weekday_limit_minutes", "detail": "Input should be a multiple of 15"}]
}
```

- Decide by `code`, which is stable. `title` and `detail` are for people and may change.
- A code that the client does not know is treated by its status: 4xx is not repeated as it is, 429 and 5xx are repeated
  after `Retry-After`, or after some seconds where it is absent.
- An entry of `errors` says where a value stands. `pointer` is a JSON pointer (RFC 6901) into the body; `parameter` and
  `in` name a parameter of the address or a header. An entry about the body as a whole has neither,
  e.g. an unknown field, whose name is not repeated.
- Nothing that was sent is repeated in a problem.
- A repeat is safe for GET, PUT and DELETE, for heartbeats, ends of sessions and offline batches, and for grants,
  pauses and requests with an `Idempotency-Key`.
"""


BODY = ("malformed", "body_timeout", "body_too_large", "unsupported_media_type", "invalid_input")
PASSWORDS = ("locked", "too_many_requests", "hashing_interrupted")
PINS = (*PASSWORDS, "no_pin", "wrong_pin")
GRANTS = ("no_config", "idempotency_key_reused", "still_running")
BEATS = ("title_unknown", "session_superseded", "session_ended", "too_many_requests", "counters_unavailable")
OWN: Mapping[str, tuple[str, ...]] = {
    "register": ("email_taken", *PASSWORDS[1:]),
    "login": ("wrong_credentials", *PASSWORDS),
    "refresh": ("unauthenticated",),
    "logout": ("no_sign_in",),
    "pullEvents": ("event_feed_off", "cursor_expired"),
    "addWebhook": ("event_feed_off", "too_many_receivers"),
    "listWebhooks": ("event_feed_off",),
    "changeWebhook": ("event_feed_off", "not_found"),
    "removeWebhook": ("event_feed_off", "not_found"),
    "rotateWebhookSecret": ("event_feed_off", "not_found"),
    "changePassword": ("wrong_password", "conflict", *PASSWORDS),
    "changeEmail": ("wrong_password", "email_taken", *PASSWORDS),
    "addDevice": ("too_many_devices", *PINS),
    "revokeDevice": ("counters_unavailable",),
    "setPin": ("wrong_pin", "wrong_password", "fresh_sign_in_required", "conflict", *PASSWORDS, "counters_unavailable"),
    "resetPin": ("wrong_password", "fresh_sign_in_required", "conflict", *PASSWORDS, "counters_unavailable"),
    "verifyPin": (*PINS, "counters_unavailable"),
    "addProfile": ("too_many_profiles", "external_id_taken"),
    "deleteTitle": ("not_found",),
    "sendHeartbeat": BEATS,
    "sendHeartbeats": ("too_many_requests", "counters_unavailable"),
    "endSession": ("too_many_requests", "counters_unavailable"),
    "getBalance": ("counters_unavailable",),
    "checkEligibility": ("counters_unavailable",),
    "explainBalance": ("no_config", "counters_unavailable"),
    "listStreams": ("counters_unavailable",),
    "createEventsTicket": ("counters_unavailable",),
    "streamEvents": ("too_many_streams", "counters_unavailable"),
    "syncOffline": ("no_config", "counters_unavailable"),
    "getLimits": ("no_config",),
    "saveLimits": ("no_config", "precondition_failed", "precondition_required"),
    "previewLimits": ("no_config",),
    "grantTime": (*GRANTS, *PINS, "pin_required", "budget_exhausted"),
    "listGrants": ("no_config",),
    "pauseViewing": (*GRANTS, *PINS, "pin_required"),
    "pauseAllViewing": (*GRANTS[1:], *PINS, "pin_required"),
    "liftPause": ("no_config",),
    "revokeGrant": ("no_config", "not_found"),
    "requestTime": GRANTS,
    "listRequests": ("no_config",),
    "approveRequest": ("no_config", "not_found", "already_decided", "budget_exhausted"),
    "denyRequest": ("no_config", "not_found", "already_decided"),
    "exportProfile": ("counters_unavailable",),
    "exportAccount": ("counters_unavailable",),
    "eraseAccount": ("wrong_password", "fresh_sign_in_required", *PASSWORDS),
    "adminGetBalance": ("not_found", "counters_unavailable"),
    "adminExplainBalance": ("not_found", "no_config", "counters_unavailable"),
    "adminGetHistory": ("not_found",),
    "adminListProfiles": ("not_found",),
    "adminListAudit": ("not_found",),
    "adminListDeadLetters": ("not_found",),
}
"""Codes of an operation beside those that follow from its shape."""


def codes_of(
    operation_id: str, *, needs_token: bool, needs_parent: bool, has_body: bool, has_input: bool, names_profile: bool
) -> dict[int, list[str]]:
    """The codes that an operation may answer, by status, apart from the ones of a defect.

    Args:
        operation_id: of the OpenAPI document.
        needs_token: whether it needs a bearer token.
        needs_parent: whether it accepts the unlock of a PIN.
        has_body: whether it takes a body.
        has_input: whether it takes parameters.
        names_profile: whether its path names a profile or session.
    """
    codes: list[str] = ["database_unavailable", *OWN.get(operation_id, ())]
    codes += ["unauthenticated", "forbidden", "too_many_requests", "identity_unavailable"] if needs_token else []
    codes += ["pin_required", "counters_unavailable"] if needs_parent else []
    codes += BODY if has_body else []
    codes += ["invalid_input"] if has_input else []
    codes += ["profile_access_denied"] if names_profile else []
    return _by_status(codes)


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    known = kinds()
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(known[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def example(code: str) -> dict[str, object]:
    """A problem with this code, as it is answered."""
    kind = kinds()[code]
    problem = {
        "type": f"urn:hourglass:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "code": code,
    }
    if kind is errors.InvalidInput:
        problem["errors"] = [{"pointer": "/name", "detail": "must be a name without control characters"}]
    return problem
