/** Random lives of a player: a service that counts on its own, a network that fails, a child that does as it likes. */
import assert from "node:assert/strict";
import test from "node:test";
import { seeded, Stage } from "./stage.mjs";

const RUNS = Number(process.env.HOURGLASS_SDK_RUNS || 400);
const FIRST_SEED = Number(process.env.HOURGLASS_SDK_SEED || 1);
const LIMIT_MS = 600_000;
const LEASE_MS = 300_000;
const DAY_ENDS = Date.UTC(2026, 2, 3, 6);

/** One child's session and balance, by the rules of the contract as far as these tests need them. */
class Service {
  constructor(random) {
    this.random = random;
    this.running = null; // {id, lastAt, title}
    this.ended = new Map(); // id → "superseded" | "ended"
    this.batches = new Map();
    this.used = 0;
    this.granted = 0;
    this.count = 0;
  }

  settle(at) {
    if (!this.running) return;
    const gap = at - this.running.lastAt;
    if (gap <= 300_000) this.used += gap;
    this.running.lastAt = at;
  }

  open(title, at) {
    this.running = { id: `s${++this.count}`, lastAt: at, title };
  }

  takeOver(at) {
    if (this.running) this.ended.set(this.running.id, "superseded");
    this.settle(at);
    this.running = null;
  }

  call(request, at) {
    if (request.kind === "beat") return this.beat(request.body, at);
    if (request.kind === "end") {
      const id = request.path.split("/")[5];
      if (this.running && this.running.id === id) {
        this.settle(at);
        this.running = null;
      }
      if (!this.ended.has(id)) this.ended.set(id, "ended");
      return [200, { session_id: id, total_seconds: 0, ended_at: "" }];
    }
    if (request.kind === "sync") {
      const known = this.batches.get(request.body.batch_id);
      const intervals = JSON.stringify(request.body.intervals);
      if (known !== undefined) assert.equal(intervals, known, "a batch is repeated unchanged");
      this.batches.set(request.body.batch_id, intervals);
      assert.ok(Math.abs(Date.parse(request.body.device_now) - at) < 5000, "it knows the server's time");
      return [200, { balance: null }];
    }
    if (request.kind === "eligible" || request.kind === "probe") {
      return [200, { eligible: this.left() > 0, remaining_seconds: this.left() / 1000, reason: "within_limit" }];
    }
    return [404, {}];
  }

  beat(body, at) {
    const id = body.session_id;
    if (id === undefined) {
      this.takeOver(at);
      this.open(body.title_id, at);
    } else if (this.ended.has(id) && this.ended.get(id) === "superseded") {
      return [409, { code: "session_superseded", by: { device_type: "tv" }, at: new Date(at).toISOString() }];
    } else if (this.ended.get(id) === "ended") {
      return [409, { code: "session_ended" }];
    } else if (!this.running || this.running.id !== id) {
      if (this.running && this.running.from === id && this.running.title === body.title_id) this.settle(at);
      else return [409, { code: "session_superseded", by: { device_type: "web" }, at: new Date(at).toISOString() }];
    } else {
      this.settle(at);
      if (this.running.title !== body.title_id) {
        this.open(body.title_id, at);
        this.running.from = id;
      }
    }
    const left = this.left();
    return [200, {
      session_id: this.running.id,
      enforcement: left === 0 ? "blocked" : left <= 300_000 ? "warning_5" : "allowed",
      remaining_seconds: left / 1000,
      used_seconds: this.used / 1000,
      stop_at: new Date(at + left).toISOString(),
      next_beat_in: Math.min(27 + 6 * this.random(), left / 1000 || 30),
      lease_seconds: Math.min(LEASE_MS, left) / 1000,
      next_reset_at: new Date(DAY_ENDS).toISOString(),
    }];
  }

  left() {
    return Math.max(0, LIMIT_MS + this.granted - this.used);
  }
}

function life(seed) {
  const random = seeded(seed);
  const service = new Service(random);
  const skew = Math.round((random() - 0.5) * 7200_000); // the device's clock
  const start = Date.UTC(2026, 2, 2, 12);
  const stage = new Stage({ wall: start + skew, mono: 10_000, seed });
  const serverNow = () => start + stage.mono - 10_000 + slept;
  let slept = 0;
  let mode = "good";
  let coming = []; // answers on their way
  let played = 0;
  let uncovered = 0; // played while neither a session nor a stretch was open
  let last = stage.mono;
  const watched = new Map();
  const taken = new Map(); // stretch intervals by batch
  const firstAnswer = new Map();
  const over = new Set();
  const unclaimed = new Map(); // ms by session, as last seen; less what was claimed in the end
  const facts = { offline: 0, blocked: 0, superseded: 0 };

  const look = () => {
    const { machine } = stage;
    stage.settle();
    for (const request of stage.unanswered.filter((each) => !each.isTaken)) {
      request.isTaken = true;
      const delay = 5 + random() * (random() < 0.1 ? 3000 : 200);
      const isLost = mode === "lossy" && random() < 0.5;
      if (request.kind === "beat" && request.body.session_id) {
        const { session_id: id, watched_seconds: claim } = request.body;
        assert.ok(claim >= (watched.get(id) || 0), "watched_seconds never falls");
        assert.ok(!over.has(id), "no beat on a session that it ended itself");
        assert.ok(claim * 1000 <= stage.mono - firstAnswer.get(id) + 1, "nor runs ahead of the clock");
        watched.set(id, claim);
      }
      if (request.kind === "end") {
        const id = request.path.split("/")[5];
        const claim = request.body.watched_seconds;
        over.add(id);
        assert.ok(claim >= (watched.get(id) || 0), "nor at the end");
        watched.set(id, claim);
      }
      if (request.kind === "sync") taken.set(request.body.batch_id, request.body.intervals);
      if (mode === "away") coming.push({ at: stage.mono + Math.min(delay, 50), request, answer: [0, null] });
      else if (mode === "busy") coming.push({ at: stage.mono + delay, request, answer: [503, { code: "counters_unavailable" }, 1] });
      else {
        coming.push({ at: stage.mono + delay / 2, request, isArrival: true, isLost });
      }
    }
    for (const item of coming.filter((each) => each.at <= stage.mono)) {
      coming = coming.filter((other) => other !== item);
      if (item.isArrival) {
        const answer = service.call(item.request, serverNow());
        coming.push({ at: stage.mono + 5 + random() * 50, request: item.request, answer: item.isLost ? [0, null] : answer });
      } else {
        const [status, body, retryAfter] = item.answer;
        if (status === 200 && item.request.kind === "beat" && !firstAnswer.has(body.session_id)) firstAnswer.set(body.session_id, stage.mono);
        stage.answer(item.request, status, body, retryAfter);
      }
    }
    if (stage.unanswered.some((each) => !each.isTaken)) look();
    assert.ok(stage.unanswered.filter((each) => each.kind === "beat").length <= 1, "one beat at a time");
    if (stage.plays) {
      assert.ok(machine.permitted, "the media runs only when it may");
      assert.ok(!machine.session || stage.mono <= machine.leaseUntil + 1, "and never without a lease");
      assert.ok(machine.phase !== "playing" || stage.mono <= machine.stopAt + 1, "and never past its stop");
    }
  };
  /** Time in small pieces, so that what plays is measured apart from the machine. */
  const pass = (ms) => {
    const until = stage.mono + ms;
    while (stage.mono < until) {
      const next = Math.min(until, stage.machine.wakeAt, ...coming.map((each) => each.at));
      const plays = stage.plays;
      const covered = stage.machine.session || stage.machine.stretch;
      stage.pass(Math.max(0.5, next - stage.mono));
      if (plays) {
        played += stage.mono - last;
        if (!covered) uncovered += stage.mono - last;
      }
      last = stage.mono;
      look();
      if (stage.machine.session) {
        const { id, watched: ms } = stage.machine.session;
        unclaimed.set(id, ms);
      }
    }
  };

  const titles = ["film", "cartoon", "lesson"];
  for (let step = 0; step < 60; step++) {
    const dice = random();
    const { machine } = stage;
    if (dice < 0.3) stage.send({ type: "play", titleId: titles[Math.floor(random() * 3)], isRunning: random() < 0.5 });
    else if (dice < 0.4 && stage.plays) stage.send({ type: "pause" });
    else if (dice < 0.45) stage.send({ type: "title", titleId: titles[Math.floor(random() * 3)] });
    else if (dice < 0.5) stage.send({ type: "end" });
    else if (dice < 0.55 && machine.phase !== "offline") service.takeOver(serverNow());
    else if (dice < 0.6) {
      service.granted += 300_000;
      stage.send({ type: "message", name: "viewing_time_updated", data: null });
    } else if (dice < 0.64) stage.send({ type: "close" });
    else if (dice < 0.68) stage.send({ type: "network", online: true });
    else if (dice < 0.71) {
      // It sleeps: the monotonic clock stands still, as on many systems, and so does the film.
      const ms = random() * 900_000;
      for (const item of coming.filter((each) => each.isArrival)) {
        Object.assign(item, { isArrival: false, answer: service.call(item.request, serverNow()) }); // it arrived before
      }
      slept += ms;
      stage.wall += ms;
      stage.send({ type: "wake" });
    } else if (dice < 0.74) {
      const message = { session_id: machine.session && machine.session.id, by: { device_type: "tv" } };
      if (message.session_id) {
        service.takeOver(serverNow());
        stage.send({ type: "message", name: "session_superseded", data: message });
      }
    } else mode = ["good", "good", "lossy", "busy", "away"][Math.floor(random() * 5)];
    last = stage.mono;
    look();
    pass(random() < 0.3 ? random() * 400_000 : random() * 20_000);
    facts.offline += stage.machine.phase === "offline" ? 1 : 0;
    facts.blocked += stage.machine.phase === "blocked" ? 1 : 0;
    facts.superseded += stage.machine.phase === "superseded" ? 1 : 0;
  }
  mode = "good";
  stage.send({ type: "end" });
  stage.send({ type: "network", online: true });
  look();
  pass(400_000);
  stage.send({ type: "play", titleId: "film" });
  look();
  pass(5000);
  stage.send({ type: "end" });
  look();
  pass(400_000);

  assert.equal(stage.machine.ends.length, 0, "every end was answered");
  assert.equal(stage.store.ends.size, 0);
  assert.equal(stage.store.stretches.size, 0, "every stretch was synced");
  assert.equal(stage.store.batch, null);
  assert.equal(service.running, null, "no session is left running");
  const intervals = [...taken.values()].flat().map((each) => ({
    from: Date.parse(each.started_at), to: Date.parse(each.ended_at), watched: each.watched_seconds * 1000,
  })).sort((a, b) => a.from - b.from);
  for (const [index, each] of intervals.entries()) {
    assert.ok(each.watched <= each.to - each.from + 2 && each.to > each.from);
    if (index) assert.ok(each.from >= intervals[index - 1].to - 1500, "stretches do not overlap");
  }
  const claimed = [...watched.values()].reduce((sum, claim) => sum + claim * 1000, 0) +
    intervals.reduce((sum, each) => sum + each.watched, 0);
  const rounding = 2 * (watched.size + intervals.length) + 5;
  assert.ok(claimed <= played + rounding, `nothing is claimed twice: ${claimed} of ${played}`);
  // What a session played after its last beat is not claimed when another took its place: that is known to the tick.
  for (const [id, ms] of unclaimed) unclaimed.set(id, Math.max(0, ms - 1000 * (watched.get(id) || 0)));
  const known = claimed + [...unclaimed.values()].reduce((sum, ms) => sum + ms, 0);
  assert.ok(known >= played - uncovered - rounding - 2100 * watched.size, `nothing is lost: ${known} of ${played}, ${uncovered} uncovered`);
  assert.ok(uncovered <= 1000, `${uncovered} of ${played} ms outside sessions and stretches`);
  return facts;
}

test(`${RUNS} random lives from seed ${FIRST_SEED}`, () => {
  const sums = { offline: 0, blocked: 0, superseded: 0 };
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    try {
      const facts = life(seed);
      for (const name of Object.keys(sums)) sums[name] += facts[name];
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
  for (const [name, count] of Object.entries(sums)) assert.ok(count > RUNS / 20, `${name} happened ${count} times only`);
});
