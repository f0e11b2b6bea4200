"""The calls under ``/catalog``."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from app.auth.dependencies import Household, Service
from app.catalogue.schemas import CatalogueTitle, TitlePage, UploadAnswer, titles_of
from app.catalogue.service import Catalogue
from app.domain.title import UploadCounts
from app.errors import InvalidInput, UnsupportedMediaType
from app.requests import API_PREFIX, read_body

NDJSON = "application/x-ndjson"

router = APIRouter(prefix=f"{API_PREFIX}/catalog", tags=["catalogue"])


async def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.services.catalogue
    return catalogue


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
    """Tell Hourglass titles: a JSON list or NDJSON of at most 10,000. What is not named stays as it is."""
    settings = request.app.state.services.settings
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {"application/json", NDJSON}:
        raise UnsupportedMediaType
    body = await read_body(
        request.receive, limit_bytes=settings.bulk_body_limit_bytes, timeout_seconds=settings.body_timeout_seconds
    )
    return await catalogue.upload(titles_of(body, is_ndjson=media_type == NDJSON))


@router.get("/titles")
async def titles(
    _: Household,
    catalogue: Titles,
    cursor: Annotated[str, Query(max_length=400)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TitlePage:
    """Titles in the order of their ids. ``next_cursor`` of one page is the ``cursor`` of the next."""
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
