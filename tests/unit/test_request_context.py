"""What a request says of itself goes into the calls that are made for it."""

import asyncio

from app.kit.batching import Batcher
from app.observability import context

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_call_carries_the_id_and_the_trace_of_its_request() -> None:
    request = context.identify([(b"x-request-id", b"abc"), (b"traceparent", TRACEPARENT.encode())])
    assert request.outgoing_headers() == {"X-Request-ID": "abc", "traceparent": TRACEPARENT}
    unnamed = context.identify([])
    assert set(unnamed.outgoing_headers()) == {"X-Request-ID"}
    assert len(unnamed.request_id) == 16
    assert unnamed.request_id != context.identify([]).request_id


async def test_a_batch_serves_many_and_runs_as_none_of_them() -> None:
    seen: list[context.RequestContext | None] = []

    async def call(items: object) -> list[None]:
        seen.append(context.current())
        return [None] * len(list(items))  # type: ignore[call-overload]

    queue: Batcher[str, None] = Batcher(call, max_batch=10, max_in_flight=1)

    async def ask(name: str) -> str:
        context.enter(context.RequestContext(request_id=name))
        await queue.submit(name)
        now = context.current()
        assert now is not None
        return now.request_id

    assert tuple(await asyncio.gather(ask("a"), ask("b"))) == ("a", "b")
    assert seen == [None]
