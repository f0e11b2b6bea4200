"""Expected errors: one class per code of the contract, with its HTTP status.

Services raise these errors. ``app/http/problems.py`` turns them into problem details (RFC 9457), and for heartbeats
``app/viewing/endpoint.py`` does. No error contains client input.
"""

from collections.abc import Mapping, Sequence


class HourglassError(Exception):
    """An error of the contract.

    Attributes:
        status: HTTP status.
        code: stable machine-readable name.
        title: one sentence for a person.
        extra: further members of the problem, e.g. ``by``.
        headers: response headers, e.g. ``Retry-After``.
        errors: field problems as ``{"pointer": JSON pointer, "detail": text}``.
    """

    status = 400
    code = "bad_request"
    title = "The request cannot be served."

    def __init__(
        self,
        detail: str | None = None,
        *,
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        self.errors = tuple(errors)

    def problem(self) -> dict[str, object]:
        """The problem details object."""
        problem: dict[str, object] = {
            "type": f"urn:hourglass:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }
        if self.errors:
            problem["errors"] = [dict(error) for error in self.errors]
        return problem


class InvalidInput(HourglassError):
    status = 422
    code = "invalid_input"
    title = "The request holds values that are not accepted."


class Malformed(HourglassError):
    status = 400
    code = "malformed"
    title = "The request body is not well-formed."


class TooLarge(HourglassError):
    status = 413
    code = "body_too_large"
    title = "The request body is larger than allowed."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Connection": "close"})  # the rest of the body is not read


class HeadTooLarge(HourglassError):
    status = 431
    code = "head_too_large"
    title = "The head of the request is too large."

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})


class BodyTimeout(HourglassError):
    status = 408
    code = "body_timeout"
    title = "The request did not arrive in time."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Connection": "close"})  # the rest of the body is not read


class Unauthenticated(HourglassError):
    status = 401
    code = "unauthenticated"
    title = "A valid bearer token is needed."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(HourglassError):
    status = 403
    code = "forbidden"
    title = "This token may not do that."


class ProfileAccessDenied(HourglassError):
    status = 403
    code = "profile_access_denied"
    title = "There is no such profile or session on this account."


class NotFound(HourglassError):
    status = 404
    code = "not_found"
    title = "There is nothing here."


class MethodNotAllowed(HourglassError):
    status = 405
    code = "method_not_allowed"
    title = "This is not something that can be done here."


class TitleUnknown(HourglassError):
    status = 404
    code = "title_unknown"
    title = "The catalogue does not hold this title."


class NoConfig(HourglassError):
    status = 404
    code = "no_config"
    title = "Only children have viewing-time settings."


class Conflict(HourglassError):
    status = 409
    code = "conflict"
    title = "The request conflicts with what is there."


class SessionSuperseded(Conflict):
    code = "session_superseded"
    title = "Another device has taken over."


class SessionEnded(Conflict):
    code = "session_ended"
    title = "The session has ended."


class PreconditionFailed(HourglassError):
    status = 412
    code = "precondition_failed"
    title = "The settings have changed since they were read."


class PreconditionRequired(HourglassError):
    status = 428
    code = "precondition_required"
    title = "Say with If-Match which version is to be replaced."


class CountersUnavailable(HourglassError):
    """Redis did not answer in time. Nothing was counted; the next heartbeat credits the gap."""

    status = 503
    code = "counters_unavailable"
    title = "Viewing time cannot be counted at the moment."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class DatabaseUnavailable(HourglassError):
    status = 503
    code = "database_unavailable"
    title = "The database cannot be reached at the moment."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class RowsLocked(DatabaseUnavailable):
    """Another transaction holds a row for too long. Work on other rows can go on."""


class UnsupportedMediaType(HourglassError):
    status = 415
    code = "unsupported_media_type"
    title = "The request body must be application/json."


class TooManyRequests(HourglassError):
    status = 429
    code = "too_many_requests"
    title = "There are too many requests at the moment."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class HashingInterrupted(HourglassError):
    """The process that hashed a PIN or password was killed or too slow. The attempt did not count."""

    status = 503
    code = "hashing_interrupted"
    title = "A PIN or password could not be processed at the moment."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class WrongCredentials(Unauthenticated):
    code = "wrong_credentials"
    title = "The e-mail address or the password is wrong."


class TooManyProfiles(HourglassError):
    status = 422
    code = "too_many_profiles"
    title = "The account has as many profiles as it may have."


class EmailTaken(Conflict):
    code = "email_taken"
    title = "There is an account with this e-mail address."


class ExternalIdTaken(Conflict):
    code = "external_id_taken"
    title = "This id belongs to another account or profile."


class FreshSignInRequired(Unauthenticated):
    """Instead of a password: a token that says when its holder signed in (RFC 9470)."""

    code = "fresh_sign_in_required"
    title = "This needs the password, or a token of a sign-in of the last minutes."

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self.headers["WWW-Authenticate"] = f'Bearer error="insufficient_user_authentication", max_age={seconds}'


class IdentityUnavailable(HourglassError):
    """No key of the identity service has been read yet, or not for too long."""

    status = 503
    code = "identity_unavailable"
    title = "Tokens of the identity service cannot be verified at the moment."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})


class Unexpected(HourglassError):
    """An unexpected error; the log has its details under ``request_id``."""

    status = 500
    code = "unexpected"
    title = "Something went wrong on our side."


class TooManyStreams(HourglassError):
    status = 503
    code = "too_many_streams"
    title = "This process serves as many event streams as it may."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "10"})


class KeyReused(InvalidInput):
    code = "idempotency_key_reused"
    title = "This Idempotency-Key was used for another request."


class StillRunning(Conflict):
    code = "still_running"
    title = "The first request with this Idempotency-Key is still running."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class AlreadyDecided(Conflict):
    code = "already_decided"
    title = "This request was answered before, or its day is over."


class NoSignIn(Conflict):
    code = "no_sign_in"
    title = "This token belongs to no sign-in of ours; it ends when it expires."


class WrongPassword(Unauthenticated):
    code = "wrong_password"
    title = "The password is wrong."


class WrongPin(HourglassError):
    status = 403
    code = "wrong_pin"
    title = "The PIN is wrong."


class NoPin(HourglassError):
    status = 400
    code = "no_pin"
    title = "The account has no PIN yet."


class PinRequired(Forbidden):
    code = "pin_required"
    title = "Only parents may do that; a PIN unlocks it."


class BudgetExhausted(Forbidden):
    code = "budget_exhausted"
    title = "A caregiver may not grant that much on this day."

    def __init__(self, *, left_minutes: int) -> None:
        super().__init__(extra={"left_minutes": left_minutes})


class Locked(HourglassError):
    status = 423
    code = "locked"
    title = "There were too many wrong tries; try again later."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class EventFeedOff(Conflict):
    code = "event_feed_off"
    title = "The event feed is off in this deployment."


class TooManyReceivers(HourglassError):
    status = 422
    code = "too_many_receivers"
    title = "There are as many receivers of webhooks as there may be; remove one first."


class CursorExpired(HourglassError):
    status = 410
    code = "cursor_expired"
    title = "Events after this cursor are no longer kept; read again without a cursor."


class TooManyDevices(HourglassError):
    status = 422
    code = "too_many_devices"
    title = "The account has as many parent devices as it may have; revoke one first."
