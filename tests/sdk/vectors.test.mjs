/** The golden vectors, played through the state machine: one machine for each device of a scenario. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test, { after } from "node:test";
import { Stage } from "./stage.mjs";

const { scenarios } = JSON.parse(readFileSync(new URL("../../docs/conformance/vectors.json", import.meta.url)));
const LATE_MS = 1000;

/** An expected body as the service would send it: ids and instants for what stands for them, lower bounds. */
function filled(value, startsAt, pick) {
  if (Array.isArray(value)) return value.map((part) => filled(part, startsAt, pick));
  if (value === null || typeof value !== "object") return value;
  const keys = Object.keys(value);
  if (keys.length === 1 && keys[0] === "at_ms") return new Date(startsAt + value.at_ms).toISOString();
  if (keys.length === 2 && "from" in value && "to" in value) return pick(value);
  return Object.fromEntries(keys.map((key) => [key, filled(value[key], startsAt, pick)]));
}

/** A heartbeat as it is sent, without what its co-viewers watched. */
function unclaimed(body) {
  const sent = JSON.parse(JSON.stringify(body));
  for (const one of sent.co_viewers || []) delete one.watched_seconds;
  return sent;
}

class Device {
  constructor({ device_id: id, device_type: type = "web", profile_id: profileId }, scenario, clockError) {
    this.startsAt = Date.parse(scenario.starts_at);
    this.stage = new Stage({ wall: this.startsAt + clockError, mono: 5_000_000, deviceId: id, deviceType: type, profileId, offline: "never", tellRemaining: true });
    this.passed = 0;
    this.deadline = Infinity; // mono; the media must not run after it
    this.watched = new Map();
    this.isOver = false;
  }

  /** Let time pass without a connection; check that the media obeys, and that a stopped player is silent. */
  reach(offset) {
    this.stage.pass(offset - this.passed, () => {
      this.passed = offset;
      for (const request of this.stage.unanswered) {
        assert.ok(!(this.isOver && request.kind === "beat"), "a player that was superseded is silent");
        if (request.kind !== "end") this.stage.answer(request, 0);
        else this.stage.answer(request, 200, { session_id: "x" });
      }
      assert.ok(!this.stage.plays || this.stage.mono <= this.deadline + LATE_MS, "it plays past its time");
    });
    this.passed = offset;
  }

  /** Make it send the beat of a step now, and answer that as published. */
  beat(step, next) {
    const { stage } = this;
    const { send, expect } = step;
    const machine = stage.machine;
    this.isOver = false;
    stage.remaining = send.title_remaining_seconds;
    const together = (send.co_viewers || []).map((one) => one.profile_id);
    if (String(together) !== String(machine.together)) stage.send({ type: "together", profileIds: together });
    if (send.title_id !== machine.title) stage.send({ type: "title", titleId: send.title_id });
    if (send.session_id === undefined && machine.session) return; // its answer was lost: the player opens again below
    const paused = !!send.is_paused;
    if (!machine.session && !stage.waiting("beat")) stage.send({ type: "play", isRunning: true });
    if (paused !== (machine.wish === "pause")) stage.send(paused ? { type: "pause" } : { type: "play", isRunning: true });
    if (!stage.waiting("beat")) stage.send({ type: "network", online: true });
    const request = stage.waiting("beat");
    assert.ok(request, "it sends a beat");
    const { watched_seconds: watched, ...sent } = unclaimed(request.body);
    const wanted = unclaimed({ is_paused: false, device_type: "web", ...send });
    delete wanted.watched_seconds;
    assert.deepEqual(sent, wanted);
    if (send.session_id) {
      assert.ok(watched >= (this.watched.get(send.session_id) || 0), "watched_seconds never falls");
      this.watched.set(send.session_id, watched);
    }
    const body = filled(expect.body, this.startsAt, (bounds) => {
      const wait = next === undefined ? bounds.from : (next - step.at_ms) / 1000;
      return Math.min(bounds.to, Math.max(bounds.from, wait));
    });
    if (expect.status === 200) {
      body.lease_seconds = body.lease_seconds === undefined ? 300 : body.lease_seconds;
      body.next_beat_in = body.next_beat_in === undefined ? 30 : body.next_beat_in;
      const stop = body.stop_at ? Date.parse(body.stop_at) - this.startsAt - step.at_ms : Infinity;
      this.deadline = stage.mono + Math.min(stop, body.lease_seconds * 1000);
    }
    stage.answer(request, expect.status, body);
    if (expect.status === 409 && body.code === "session_superseded") {
      assert.equal(machine.phase, "superseded");
      assert.equal(stage.plays, false);
      assert.equal(stage.emitted("superseded").at(-1).detail.deviceType, body.by.device_type);
      this.isOver = true;
    }
    if (expect.status === 200 && body.enforcement === "blocked") {
      assert.equal(stage.plays, false);
      assert.ok(["blocked", "stopping"].includes(machine.phase), machine.phase);
      assert.ok(stage.requests.some((each) => each.kind === "end" && each.path.includes(body.session_id)), "it ends");
    } else if (expect.status === 200) {
      assert.equal(machine.session.id, body.session_id, "it takes the new session");
      assert.equal(stage.plays, !paused, "it plays with the answer");
      const warning = /^warning_(\d+)$/.exec(body.enforcement);
      if (warning) assert.equal(stage.emitted("warning").at(-1).detail.minutes, Number(warning[1]));
    }
  }
}

const played = { steps: 0, sent: 0 };

after(() => assert.ok(played.sent / played.steps > 0.9, `${played.sent} of ${played.steps} beats were the player's own`));

const isForced = (step) => step.send.session_id !== undefined;

for (const clockError of [0, -3 * 3600_000]) {
  for (const scenario of scenarios) {
    test(`${scenario.name}, device clock off by ${clockError / 3600_000} h`, () => {
      const devices = new Map();
      const owners = new Map();
      for (const [index, step] of scenario.steps.entries()) {
        for (const device of devices.values()) device.reach(step.at_ms);
        if (step.call === "beat") {
          const id = step.send.device_id;
          played.steps += 1;
          if (!devices.has(id)) {
            const device = new Device(step.send, scenario, clockError);
            device.passed = step.at_ms;
            device.stage.wall += step.at_ms;
            devices.set(id, device);
          }
          const device = devices.get(id);
          const { machine } = device.stage;
          const isOwn = !isForced(step) || (machine.session && machine.session.id === step.send.session_id);
          if (!isOwn) continue; // the player has stopped, opened again, or never had it: it would not send this
          if (!isForced(step) && machine.session) {
            // The vectors lose the answer to an opening beat, or the player is asked to start over.
            machine.session = null;
            machine.phase = "idle";
            device.stage.send({ type: "title", titleId: step.send.title_id });
            device.stage.send({ type: "play", isRunning: true });
          }
          played.sent += 1;
          const next = scenario.steps.slice(index + 1).find((each) => each.call === "beat" && each.send.device_id === id);
          device.beat(step, next && next.at_ms);
          if (step.expect.status === 200) owners.set(step.expect.body.session_id, device);
        } else if (step.call === "end") {
          const device = owners.get(step.send.session_id);
          const { stage } = device || {};
          if (stage && stage.machine.session && stage.machine.session.id === step.send.session_id) {
            stage.send({ type: "end" });
            const end = stage.waiting("end");
            assert.ok(end.path.endsWith(`session/${step.send.session_id}/end`));
            stage.answer(end, step.expect.status, filled(step.expect.body, device.startsAt, (bounds) => bounds.from));
            assert.equal(stage.plays, false);
          }
        } else if (["grant", "revoke", "settings"].includes(step.call)) {
          const open = scenario.steps.slice(index + 1).find((each) => each.call === "beat" && !isForced(each));
          for (const device of devices.values()) {
            device.stage.send({ type: "message", name: "viewing_time_updated", data: null });
            const check = device.stage.waiting("eligible");
            const eligible = !!open && open.expect.status === 200 && open.expect.body.enforcement !== "blocked";
            if (check) device.stage.answer(check, 200, { eligible });
            const beat = device.stage.waiting("beat");
            if (beat && beat.body.session_id) device.stage.answer(beat, 503, {}, 1);
          }
        }
      }
      assert.ok(devices.size > 0 || scenario.name.startsWith("offline") || scenario.name.startsWith("balance"));
      for (const device of devices.values()) {
        device.reach(device.passed + 400_000); // nobody answers any more: it stops at its time, or with its lease
        assert.equal(device.stage.plays, false);
      }
    });
  }
}

/** Answers to heartbeats that say when a window closes: until when a player may go on that hears nothing more. */
const closings = scenarios.flatMap((scenario) =>
  scenario.steps.filter((step) => step.call === "beat" && step.expect.status === 200 && step.expect.body.closes_at)
    .map((step) => ({ scenario, step })));

test("the vectors have a window that closes after the limit", () => {
  assert.ok(closings.some(({ step }) => step.expect.body.reason === "daily_limit"));
});

for (const pausedShare of [0, 0.5, 0.95]) {
  for (const { scenario, step } of closings) {
    test(`${scenario.name} at ${step.at_ms} ms, cut off and ${pausedShare} of the time paused`, () => {
      const startsAt = Date.parse(scenario.starts_at);
      const body = filled(step.expect.body, startsAt, (bounds) => bounds.to);
      const stage = new Stage({ wall: startsAt + step.at_ms, mono: 5_000_000 });
      stage.send({ type: "play", titleId: "film", isRunning: true });
      stage.answer(stage.waiting("beat"), 200, { lease_seconds: 300, next_beat_in: 30, ...body });
      stage.send({ type: "end" });
      stage.answer(stage.waiting("end"), 200, {});
      const closesIn = Date.parse(body.closes_at) - startsAt - step.at_ms;
      const cutOff = () => stage.unanswered.forEach((each) => stage.answer(each, 0));
      stage.pass(closesIn * pausedShare, cutOff);
      const left = body.reason === "window" ? Infinity : body.remaining_seconds * 1000;
      const from = stage.mono;
      stage.send({ type: "play", titleId: "film", isRunning: true });
      stage.pass(closesIn + 60_000, cutOff);
      const pauses = stage.log.filter((entry) => entry.command === "pause" && entry.at > from);
      const stopped = pauses.length ? pauses.at(-1).at : from;
      const began = stage.log.find((entry) => entry.command === "play" && entry.at > from); // nobody answered for long enough
      const wanted = Math.min((began ? began.at : from) + left, 5_000_000 + closesIn);
      assert.ok(Math.abs(stopped - wanted) <= LATE_MS, `it stopped ${stopped - wanted} ms late`);
      assert.equal(stage.plays, false);
    });
  }
}
