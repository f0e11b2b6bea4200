/** A machine on a stage: a clock that is set, the media as it was commanded, and the requests that wait for an answer. */
import { PlaybackMachine } from "../../app/sdk/player/src/hourglass-player.js";

export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export class Stage {
  constructor({ wall = 0, mono = 1000, seed = 1, loaded = true, ...options } = {}) {
    this.mono = mono;
    this.wall = wall;
    this.plays = false; // what the media does
    this.log = []; // commands and emitted events, with their instants
    this.requests = []; // all of them
    this.unanswered = [];
    this.store = { stretches: new Map(), batch: null, contact: null, ends: new Map() };
    let ids = 0;
    this.machine = new PlaybackMachine({
      profileId: "p".repeat(36), deviceId: "device", random: seeded(seed), newId: () => `id-${++ids}`, ...options,
    });
    if (loaded) this.send({ type: "stored" });
  }

  get now() {
    return { mono: this.mono, wall: this.wall, remaining: this.remaining };
  }

  send(event) {
    if (event.type === "pause") this.plays = false;
    if (event.isRunning) this.plays = true;
    for (const effect of this.machine.handle(event, this.now)) this.obey(effect);
  }

  obey(effect) {
    if (effect.type === "request") {
      const request = { ...effect };
      this.requests.push(request);
      this.unanswered.push(request);
    } else if (effect.type === "command") {
      this.plays = effect.name === "play";
      this.log.push({ at: this.mono, command: effect.name });
    } else if (effect.type === "emit") this.log.push({ at: this.mono, emit: effect.name, detail: effect.detail });
    else if (effect.type === "saveStretch") {
      this.store.stretches.set(effect.stretch.id, structuredClone(effect.stretch));
      this.store.contact = structuredClone(effect.contact);
    } else if (effect.type === "saveContact") this.store.contact = structuredClone(effect.contact);
    else if (effect.type === "saveEnd") this.store.ends.set(effect.id, effect);
    else if (effect.type === "forgetEnd") this.store.ends.delete(effect.id);
    else if (effect.type === "takeBatch") {
      const closed = [...this.store.stretches.values()].filter((stretch) => !stretch.isOpen);
      if (!this.store.batch && closed.length) {
        for (const stretch of closed) this.store.stretches.delete(stretch.id);
        this.store.batch = {
          id: effect.id,
          lastServerTime: Math.min(...closed.map((stretch) => stretch.lastServerTime)),
          intervals: closed.map((stretch) => stretch.interval),
        };
      }
      const batch = this.store.batch;
      this.later = this.later || [];
      this.later.push({ type: "batch", batch });
    } else if (effect.type === "forgetBatch") {
      if (this.store.batch && this.store.batch.id === effect.id) this.store.batch = null;
    }
  }

  /** What storage answers comes after the call that asked. */
  settle() {
    while (this.later && this.later.length) this.send(this.later.shift());
  }

  /** Let time pass, ringing the alarm whenever the machine asks for it; `atEach` runs at first and after each ring. */
  pass(ms, atEach = () => {}) {
    const until = this.mono + ms;
    atEach();
    for (let rings = 0; ; rings++) {
      if (rings > 100_000) throw new Error(`it never rests: ${this.machine.phase}, wakes at ${this.machine.wakeAt - this.mono}`);
      this.settle();
      const next = Math.min(until, Math.max(this.mono, this.machine.wakeAt));
      this.wall += next - this.mono;
      this.mono = next;
      this.send({ type: "tick" });
      this.settle();
      atEach();
      if (this.mono >= until) return;
    }
  }

  /** The oldest request of a kind that waits for its answer. */
  waiting(kind) {
    return this.unanswered.find((request) => request.kind === kind);
  }

  answer(request, status, body = null, retryAfter = undefined) {
    this.unanswered = this.unanswered.filter((other) => other !== request);
    this.send({ type: "answer", id: request.id, status, body, retryAfter });
    this.settle();
  }

  emitted(name) {
    return this.log.filter((entry) => entry.emit === name);
  }
}
