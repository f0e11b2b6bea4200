"""The least that an ASGI application under uvicorn can do: read a heartbeat and send a fixed answer."""

from app.lab.bench.baselines import Message, Receive, Send
from app.lab.bench.baselines.answer import BODY, HEADERS


async def answer(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
