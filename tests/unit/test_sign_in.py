"""Refresh tokens follow one another; one that comes again ends its sign-in."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.sign_in import RETRY_MS, Rotation, SignIn

NOW = 1_772_452_800_000
HOUR_MS = 3_600_000


def _sign_in() -> SignIn:
    return SignIn(id="s", account_id="a", created_at_ms=NOW, refreshed_at_ms=NOW, expires_at_ms=NOW + 30 * 24 * HOUR_MS)


def _use(sign_in: SignIn, serial: int, at_ms: int) -> tuple[SignIn, Rotation]:
    return sign_in.use(serial, at_ms=at_ms, expires_at_ms=at_ms + 30 * 24 * HOUR_MS)


def test_each_token_is_good_for_one_successor() -> None:
    sign_in = _sign_in()
    for hour in range(5):
        sign_in, rotation = _use(sign_in, hour, NOW + hour * HOUR_MS)
        assert (rotation, sign_in.serial) == (Rotation.ROTATED, hour + 1)


def test_a_retry_gets_the_same_successor_and_nobody_else_does() -> None:
    rotated, _ = _use(_sign_in(), 0, NOW + HOUR_MS)
    for late_ms in (0, 1, RETRY_MS, -RETRY_MS):
        assert _use(rotated, 0, NOW + HOUR_MS + late_ms) == (rotated, Rotation.REPEATED)
    for late_ms in (RETRY_MS + 1, -RETRY_MS - 1, HOUR_MS):
        ended, rotation = _use(rotated, 0, NOW + HOUR_MS + late_ms)
        assert rotation is Rotation.REUSED
        assert ended.ended_at_ms is not None
        assert _use(ended, 1, NOW + HOUR_MS + late_ms)[1] is Rotation.REFUSED


def test_a_retry_of_the_one_before_the_last_is_reuse() -> None:
    first, _ = _use(_sign_in(), 0, NOW)
    second, _ = _use(first, 1, NOW + 1)
    assert _use(second, 0, NOW + 2)[1] is Rotation.REUSED


def test_a_sign_in_expires_with_its_newest_token() -> None:
    sign_in = _sign_in()
    assert _use(sign_in, 0, sign_in.expires_at_ms)[1] is Rotation.REFUSED
    assert _use(sign_in, 0, sign_in.expires_at_ms - 1)[1] is Rotation.ROTATED


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20_000)), max_size=30))
def test_a_copied_token_never_lives_beside_the_original(uses: list[tuple[int, int]]) -> None:
    """At every instant one number at most can still be exchanged for a new one."""
    sign_in, at_ms = _sign_in(), NOW
    for serial, later_ms in uses:
        at_ms += later_ms
        before = sign_in
        sign_in, rotation = _use(sign_in, serial, at_ms)
        assert sign_in.serial - before.serial == (rotation is Rotation.ROTATED)
        exchanged = [number for number in range(9) if _use(sign_in, number, at_ms)[1] is Rotation.ROTATED]
        assert exchanged == ([] if sign_in.ended_at_ms is not None else [sign_in.serial])
