"""Routes under ``/catalog``."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, status
from pydantic import AfterValidator

from app.auth.dependencies import Household, Service
from app.auth.external_ids import ExternalRoute
from app.catalogue.schemas import CatalogueTitle, TitlePage, UploadAnswer, titles_of
from app.catalogue.service import Catalogue
from app.domain.title import UploadCounts
from app.errors import InvalidInput
from app.http.requests import API_PREFIX, NDJSON, read_bulk

router = APIRouter(prefix=f"{API_PREFIX}/catalog", tags=["catalogue"], route_class=ExternalRoute)


async def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.services.catalogue
    return catalogue


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must hold printable characters only")
    return text


Titles = Annotated[Catalogue, Depends(_catalogue)]
_UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "maxItems": 10_000,
                    "items": {"$ref": "#/components/schemas/CatalogueTitle"},
                }
            },
            NDJSON: {"schema": {"type": "string", "description": "one title a line"}},
        },
    }
}


@router.put("/titles", response_model=UploadAnswer, openapi_extra=_UPLOAD_SCHEMA)
async def upload(request: Request, _: Service, catalogue: Titles) -> UploadCounts:
    """Upload titles: a JSON list or NDJSON of at most 10,000. Titles that are not listed stay unchanged."""
    media_type, body = await read_bulk(request)
    return await catalogue.upload(titles_of(body, is_ndjson=media_type == NDJSON))


@router.delete("/titles/{title_id:path}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_title(
    title_id: Annotated[str, Path(min_length=1, max_length=64), AfterValidator(_printable)],
    _: Service,
    catalogue: Titles,
) -> None:
    """Take a title out of the catalogue: it cannot be started any more, and counts as not educational.

    History and reports go on to show its name for as long as sessions are kept. An upload brings it back.
    """
    await catalogue.remove(title_id)


@router.get("/titles")
async def titles(
    _: Household,
    catalogue: Titles,
    cursor: Annotated[str, Query(max_length=400)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TitlePage:
    """Titles in order of their ids. ``next_cursor`` of a page is the ``cursor`` of the next one."""
    found, last_id = await catalogue.page(after_id=_id_of(cursor), limit=limit)
    return TitlePage(
        titles=[CatalogueTitle.model_validate(title, from_attributes=True) for title in found],
        next_cursor=None if last_id is None else base64.urlsafe_b64encode(last_id.encode()).decode(),
    )


def _id_of(cursor: str) -> str:
    try:
        title_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        title_id = "\0"
    if "\0" in title_id:
        raise InvalidInput(errors=[{"parameter": "cursor", "detail": "is not one that was answered"}])
    return title_id
