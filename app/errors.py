"""Expected refusals: one class per code of the contract, with its HTTP status.

Services raise these; ``app/main.py`` turns them into problem details (RFC 9457). None carries what the client sent.
"""

from collections.abc import Mapping, Sequence


class HourglassError(Exception):
    """A refusal that the contract knows.

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
        super().__init__(detail, headers={"Connection": "close"})  # what still arrives is not read


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
        super().__init__(detail, headers={"Connection": "close"})  # what still arrives is not read


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
    """Redis cannot be reached in time. Nothing is guessed; the next beat credits the gap."""

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
    """Somebody else holds a row for too long; what needs other rows can go on."""


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
    """The process that hashed a PIN or password was ended from outside. A comparison counted as a try."""

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


class Unexpected(HourglassError):
    """Nobody foresaw this; the log has the details under ``request_id``."""

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


class Locked(HourglassError):
    status = 423
    code = "locked"
    title = "There were too many wrong tries; try again later."

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class TooManyDevices(HourglassError):
    status = 422
    code = "too_many_devices"
    title = "The account has as many parent devices as it may have; revoke one first."
