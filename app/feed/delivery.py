"""Delivery of events to receivers: at least once, in the order of each profile, each receiver apart from all others."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from app import __version__
from app.clock import Clock, monotonic_ms
from app.domain.feed import KeptEvent, cloud_event
from app.domain.webhooks import (
    GIVE_UP_MS,
    Attempt,
    DeliveryRound,
    WaitingDelivery,
    WebhookReceiver,
    pause_ms,
    signature,
)
from app.errors import DatabaseUnavailable
from app.feed.ports import DeliveryLock, DeliveryStore, KeptFeed, Sender
from app.observability import worker_metrics

log = structlog.get_logger(__name__)
BATCH = 100
MAX_WAITING = 1000
_SUBJECTS_AT_ONCE = 8
_CIRCUIT_FAILURES = 5
_MAX_CIRCUIT_MS = 300_000
_MAX_RETRY_AFTER_MS = 3_600_000
_STORE_CALLS_AT_ONCE = 2


@dataclass
class _Circuit:
    """How a receiver has answered lately. It opens after some failures in a row; then one event at a time is tried."""

    failures: int = 0
    paused_until_ms: int = 0
    is_stopped: bool = False
    """Nothing more is sent in this round."""

    @property
    def is_open(self) -> bool:
        return self.failures >= _CIRCUIT_FAILURES


@dataclass
class _Results:
    delivered: list[str] = field(default_factory=list)
    waiting: list[WaitingDelivery] = field(default_factory=list)
    dead: list[WaitingDelivery] = field(default_factory=list)
    is_gone: bool = False
    is_failing: bool = False


class Deliverer:
    """Delivers what the feed holds. ``tick`` starts the receivers that are at rest and waits for none of them.

    A round of a receiver reads events, sends them, and keeps the result in one transaction. A crash in between repeats
    the round. Within a round the events of one subject go one after the other; several subjects go at once. An event
    that fails makes later events of its subject wait.
    """

    def __init__(
        self, feed: KeptFeed, store: DeliveryStore, sender: Sender, *, lock: DeliveryLock, clock: Clock
    ) -> None:
        self._feed = feed
        self._store = store
        self._sender = sender
        self._lock = lock
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter
        self._circuits: defaultdict[str, _Circuit] = defaultdict(_Circuit)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun_for: dict[str, WebhookReceiver] = {}
        """Each receiver as it was when its last run began."""
        self._store_calls = asyncio.Semaphore(_STORE_CALLS_AT_ONCE)

    async def tick(self) -> None:
        """Start a run of each enabled receiver that has none. Raises DatabaseUnavailable.

        A run for a receiver that was changed meanwhile ends: what it has not kept is sent by the next one.
        """
        receivers = await self._store.receivers()
        worker_metrics.note_webhooks(
            waiting=sum(each.waiting for each in receivers), dead=sum(each.dead_letters for each in receivers)
        )
        enabled = {each.receiver_id for each in receivers if each.is_enabled}
        if not enabled or not await self._lock.is_ours():
            await self.close()
            return
        for receiver_id in self._running.keys() - enabled:
            self._running.pop(receiver_id).cancel()
            del self._begun_for[receiver_id]
        await self._sender.close_others({each.url for each in receivers if each.is_enabled})
        for receiver in receivers:
            running = self._running.get(receiver.receiver_id)
            if running is not None and _is_changed(self._begun_for[receiver.receiver_id], receiver):
                running.cancel()
                self._circuits.pop(receiver.receiver_id, None)
            is_resting = running is None or running.done()
            is_paused = monotonic_ms() < self._circuits[receiver.receiver_id].paused_until_ms
            if receiver.is_enabled and is_resting and not is_paused:
                task = asyncio.create_task(self._run(receiver), name="webhook")
                self._running[receiver.receiver_id] = task
                self._begun_for[receiver.receiver_id] = receiver

    async def close(self) -> None:
        """Stop all runs. What was not kept is sent again."""
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, receiver: WebhookReceiver) -> None:
        """Rounds until nothing is due."""
        try:
            position: int | None = receiver.position
            while position is not None:
                position = await self.deliver(receiver, position)
        except DatabaseUnavailable:  # the next tick continues
            return
        except Exception:
            log.exception("webhook_failed", receiver_id=receiver.receiver_id)
            self._circuits[receiver.receiver_id].paused_until_ms = monotonic_ms() + _MAX_CIRCUIT_MS

    async def deliver(self, receiver: WebhookReceiver, position: int) -> int | None:
        """One round.

        Returns:
            The position to continue from; None if nothing is due or the receiver fails.
        """
        circuit, at_ms = self._circuits[receiver.receiver_id], self._clock()
        circuit.is_stopped = False
        async with self._store_calls:
            waiting = await self._store.waiting(receiver.receiver_id, most=MAX_WAITING + 1)
            fresh: tuple[KeptEvent, ...] = ()
            removed_until = 0
            if len(waiting) < MAX_WAITING and not circuit.is_open:
                page = await self._feed.after(position, most=BATCH)
                removed_until = page.removed_until
                if removed_until > position:
                    log.warning("webhook_events_missed", receiver_id=receiver.receiver_id)
                fresh = page.events
        wanted = [event for event in fresh if receiver.kinds is None or event.kind in receiver.kinds]
        reached = max(fresh[-1].position if fresh else position, removed_until)
        queues = _by_subject(waiting, wanted)
        due = [queue for queue in queues.values() if queue[0].next_ms <= at_ms]
        if reached == position and not due:
            return None
        results = _Results()
        if circuit.is_open:  # one attempt tells whether the receiver is back
            due = due[:1]
        await self._send_all(receiver, due, circuit, results)
        _keep_waiting(queues.values(), wanted, results)
        async with self._store_calls:
            await self._store.keep(receiver.receiver_id, _round(results, reached), at_ms=self._clock())
        return None if results.is_gone or circuit.is_stopped else reached

    async def _send_all(
        self,
        receiver: WebhookReceiver,
        due: Sequence[Sequence[WaitingDelivery]],
        circuit: _Circuit,
        results: _Results,
    ) -> None:
        """Send queues of subjects, some at once, until the receiver has to be left alone."""
        left = iter(due)

        async def lane() -> None:
            for queue in left:
                await self._send_queue(receiver, queue, circuit, results)

        lanes = 1 if circuit.failures else _SUBJECTS_AT_ONCE
        await asyncio.gather(*(lane() for _ in range(lanes)))

    async def _send_queue(
        self, receiver: WebhookReceiver, queue: Sequence[WaitingDelivery], circuit: _Circuit, results: _Results
    ) -> None:
        """Send the events of one subject in order, up to the first that fails."""
        for delivery in queue:
            if circuit.is_stopped:
                return
            attempt = await self._attempt(receiver, delivery.event)
            if attempt.error is None:
                circuit.failures, results.is_failing = 0, False
                results.delivered.append(delivery.event.event_id)
                worker_metrics.WEBHOOK_ATTEMPTS.labels("delivered").inc()
                continue
            worker_metrics.WEBHOOK_ATTEMPTS.labels("failed").inc()
            self._note_failure(delivery, attempt, circuit, results)
            if not self._is_over(delivery):
                return

    async def _attempt(self, receiver: WebhookReceiver, event: KeptEvent) -> Attempt:
        at_ms, body = self._clock(), cloud_event(event)
        signed = signature(receiver.secrets_at(at_ms), event_id=event.event_id, at_s=at_ms // 1000, body=body)
        headers = {
            "content-type": "application/cloudevents+json",
            "user-agent": f"Hourglass/{__version__}",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(at_ms // 1000),
            "webhook-signature": signed,
        }
        return await self._sender.send(receiver.url, body=body, headers=headers, at_ms=at_ms)

    def _is_over(self, delivery: WaitingDelivery) -> bool:
        return self._clock() - delivery.first_ms >= GIVE_UP_MS

    def _note_failure(self, delivery: WaitingDelivery, attempt: Attempt, circuit: _Circuit, results: _Results) -> None:
        circuit.failures += 1
        results.is_failing = True
        results.is_gone = results.is_gone or attempt.is_gone
        wait_ms = pause_ms(delivery.attempts + 1, random=self._random.random())
        if attempt.retry_after_ms is not None:
            wait_ms = max(wait_ms, min(attempt.retry_after_ms, _MAX_RETRY_AFTER_MS))
        if circuit.is_open or attempt.retry_after_ms is not None or attempt.is_gone:
            pause = wait_ms if attempt.retry_after_ms is not None else self._circuit_pause_ms(circuit)
            circuit.is_stopped, circuit.paused_until_ms = True, monotonic_ms() + pause
        failed = msgspec.structs.replace(
            delivery, attempts=delivery.attempts + 1, next_ms=self._clock() + wait_ms, error=attempt.error
        )
        if self._is_over(delivery):
            results.dead.append(failed)
            worker_metrics.WEBHOOK_ATTEMPTS.labels("dead").inc()
            log.warning("webhook_dead_lettered", event_id=delivery.event.event_id, error=attempt.error)
        else:
            results.waiting.append(failed)

    def _circuit_pause_ms(self, circuit: _Circuit) -> int:
        failures = circuit.failures - _CIRCUIT_FAILURES + 1
        return min(pause_ms(failures, random=self._random.random()), _MAX_CIRCUIT_MS)


def _is_changed(before: WebhookReceiver, now: WebhookReceiver) -> bool:
    """Whether a receiver has another address, other kinds of events or another secret."""
    return (before.url, before.kinds, before.secret) != (now.url, now.kinds, now.secret)


def _by_subject(waiting: Sequence[WaitingDelivery], fresh: Iterable[KeptEvent]) -> dict[str, list[WaitingDelivery]]:
    """What is to be sent to one receiver, by subject, in order."""
    known = {delivery.event.event_id for delivery in waiting}
    new = (WaitingDelivery(event=event, first_ms=event.written_ms) for event in fresh if event.event_id not in known)
    queues: defaultdict[str, list[WaitingDelivery]] = defaultdict(list)
    for delivery in sorted((*waiting, *new), key=lambda each: each.event.position):
        queues[delivery.event.subject].append(delivery)
    return queues


def _keep_waiting(queues: Iterable[Sequence[WaitingDelivery]], fresh: Sequence[KeptEvent], results: _Results) -> None:
    """Fresh events that were not sent wait as well, since the receiver's position passes them."""
    done = {*results.delivered, *(each.event.event_id for each in (*results.waiting, *results.dead))}
    new = {event.event_id for event in fresh}
    for queue in queues:
        results.waiting += [each for each in queue if each.event.event_id in new - done]


def _round(results: _Results, position: int) -> DeliveryRound:
    return DeliveryRound(
        position=position,
        delivered=tuple(results.delivered),
        waiting=tuple(results.waiting),
        dead=tuple(results.dead),
        is_gone=results.is_gone,
        is_failing=results.is_failing,
    )
