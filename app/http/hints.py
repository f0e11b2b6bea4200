"""Hints of tampering, as history and the explanation of a decision tell them."""

import msgspec

from app.domain.tampering import TEXTS, TamperHint
from app.timestamps import rfc3339


class HintAnswer(msgspec.Struct, frozen=True):
    """What the heartbeats of a session told that does not fit together. It is no proof, and it decides nothing."""

    kind: str
    text: str
    session_id: str
    device_id: str
    noted_at: str

    @classmethod
    def of(cls, hint: TamperHint) -> "HintAnswer":
        return cls(hint.kind, TEXTS[hint.kind], hint.session_id, hint.device_id, rfc3339(hint.noted_ms))
