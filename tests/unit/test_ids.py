"""Session ids prove issuer, time and profile."""

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ids import RANDOM_BITS, SessionIds

KIM, ALEX = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
AT_MS = 1_790_000_000_123
IDS = SessionIds(b"a secret of this deployment")
UNITS_48 = st.integers(0, 2**48 - 1)


@given(at_ms=UNITS_48, entropy=st.integers(0, 2**RANDOM_BITS - 1))
def test_an_id_tells_when_it_was_issued(at_ms: int, entropy: int) -> None:
    session_id = IDS.issue(KIM, at_ms=at_ms, entropy=entropy)
    assert IDS.issued_ms(KIM, session_id) == at_ms


@given(at_ms=UNITS_48, entropy=st.integers(0, 2**64 - 1))
def test_an_id_is_a_uuid_of_version_8(at_ms: int, entropy: int) -> None:
    value = uuid.UUID(IDS.issue(KIM, at_ms=at_ms, entropy=entropy))
    assert (value.version, value.variant) == (8, uuid.RFC_4122)


@given(earlier=st.integers(0, 2**48 - 2), later_by=st.integers(1, 10**9), entropies=st.tuples(UNITS_48, UNITS_48))
def test_ids_sort_by_the_instant_of_issue(earlier: int, later_by: int, entropies: tuple[int, int]) -> None:
    later = min(earlier + later_by, 2**48 - 1)
    first = IDS.issue(KIM, at_ms=earlier, entropy=entropies[0])
    assert first < IDS.issue(KIM, at_ms=later, entropy=entropies[1])


def test_another_childs_id_is_not_ours() -> None:
    assert IDS.issued_ms(ALEX, IDS.issue(KIM, at_ms=AT_MS, entropy=7)) is None


def test_an_id_of_another_deployment_is_not_ours() -> None:
    assert SessionIds(b"another secret").issued_ms(KIM, IDS.issue(KIM, at_ms=AT_MS, entropy=7)) is None


@given(bit=st.integers(0, 127))
def test_no_bit_can_be_changed(bit: int) -> None:
    issued = uuid.UUID(IDS.issue(KIM, at_ms=AT_MS, entropy=7))
    forged = str(uuid.UUID(int=issued.int ^ (1 << bit)))
    assert IDS.issued_ms(KIM, forged) is None


@given(value=st.uuids(allow_nil=True))
def test_a_made_up_uuid_is_refused(value: uuid.UUID) -> None:
    assert IDS.issued_ms(KIM, str(value)) is None


@pytest.mark.parametrize("spelling", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda s: s.replace("-", "")])
def test_only_one_spelling_of_an_id_counts(spelling: Callable[[str], str]) -> None:
    session_id = IDS.issue(KIM, at_ms=AT_MS, entropy=0xABCDEF)
    assert IDS.issued_ms(KIM, spelling(session_id)) is None


@given(text=st.text(max_size=60))
def test_what_is_no_uuid_was_never_issued(text: str) -> None:
    assert IDS.issued_ms(KIM, text) is None


@given(entropies=st.lists(st.integers(0, 2**RANDOM_BITS - 1), min_size=2, max_size=20, unique=True))
def test_ids_of_one_instant_differ(entropies: list[int]) -> None:
    assert len({IDS.issue(KIM, at_ms=AT_MS, entropy=entropy) for entropy in entropies}) == len(entropies)
