"""Requests and responses of the catalogue calls."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from pydantic import BaseModel

from app.domain.title import Title
from app.errors import InvalidInput, Malformed
from app.http.requests import require_printable, validation_problem

MAX_UPLOAD = 10_000
MAX_DURATION_SECONDS = 7 * 86_400
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"


class TitleItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One title of an upload. msgspec decodes it, because uploads may be large."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(max_length=300, pattern=_NO_CONTROLS)]
    is_educational: bool
    duration_seconds: Annotated[int, Meta(ge=0, le=MAX_DURATION_SECONDS)] | None = None


class UploadAnswer(BaseModel):
    received: int
    created: int
    updated: int
    unchanged: int


class CatalogueTitle(BaseModel):
    id: str
    name: str
    is_educational: bool
    duration_seconds: int | None


class TitlePage(BaseModel):
    """A page of titles. ``next_cursor`` is null on the last page."""

    titles: list[CatalogueTitle]
    next_cursor: str | None


_decode_list = msgspec.json.Decoder(list[TitleItem]).decode
_decode_lines = msgspec.json.Decoder(TitleItem).decode_lines


def titles_of(body: bytes, *, is_ndjson: bool) -> list[Title]:
    """Decode the titles of an upload.

    Raises:
        Malformed: not JSON in UTF-8.
        InvalidInput: not a list of titles, too many, an invalid id, or a repeated id.
    """
    try:
        items = _decode_lines(body) if is_ndjson else _decode_list(body)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed from None
    if len(items) > MAX_UPLOAD:
        raise InvalidInput(f"An upload holds at most {MAX_UPLOAD} titles.")
    _check_ids(items)
    return [Title(**msgspec.structs.asdict(item)) for item in items]


def _check_ids(items: Sequence[TitleItem]) -> None:
    seen: set[str] = set()
    for place, item in enumerate(items):
        require_printable(item.id, f"/{place}/id")
        if item.id in seen:
            raise InvalidInput(errors=[{"pointer": f"/{place}/id", "detail": "is given twice"}])
        seen.add(item.id)
