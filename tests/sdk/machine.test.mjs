/** Single rules of the state machine that neither the vectors nor random lives can name. */
import assert from "node:assert/strict";
import test from "node:test";
import { Stage } from "./stage.mjs";

const START = Date.UTC(2026, 2, 2, 12);
const RESET = new Date(Date.UTC(2026, 2, 3, 6)).toISOString();

function answerAt(stage, seconds, more = {}) {
  const at = START + stage.mono - 1000;
  return {
    session_id: "s1", enforcement: seconds > 0 ? "allowed" : "blocked", remaining_seconds: seconds, used_seconds: 0,
    stop_at: new Date(at + seconds * 1000).toISOString(), server_time: new Date(at).toISOString(),
    next_beat_in: Math.min(30, seconds) || 30, lease_seconds: Math.min(300, seconds), next_reset_at: RESET, ...more,
  };
}

function playing(seconds, options = {}) {
  const stage = new Stage({ wall: START, ...options });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  assert.equal(stage.plays, false, "not before the answer");
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, seconds));
  assert.equal(stage.plays, true);
  return stage;
}

test("it stops on time although the answer was slow and the device's clock is wrong", () => {
  const stage = new Stage({ wall: START + 40 * 60_000 });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  const request = stage.waiting("beat");
  const answer = answerAt(stage, 10);
  stage.pass(800); // the server decided at once; its answer took so long
  stage.answer(request, 200, answer);
  stage.pass(20_000, () => stage.unanswered.forEach((each) => each.kind === "beat" && stage.answer(each, 503, {}, 1)));
  const stop = stage.log.filter((entry) => entry.command === "pause").at(-1);
  assert.ok(Math.abs(stop.at - 11_000) <= 500, `it stopped ${stop.at - 11_000} ms late`);
});

test("a grant that comes in the last moment is found by the beat at the stop", () => {
  const stage = playing(10);
  stage.pass(10_000);
  assert.equal(stage.plays, false);
  assert.equal(stage.emitted("blocked").length, 1);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 900));
  assert.equal(stage.plays, true);
  assert.deepEqual(stage.emitted("unblocked").at(-1).detail, { resumes: true });
});

test("the reason that the service gives in the end is told as well", () => {
  const stage = playing(10);
  stage.pass(10_000);
  assert.equal(stage.emitted("blocked").at(-1).detail.reason, "daily_limit");
  const again = new Date(START + 3600_000).toISOString();
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 0, { reason: "window", available_again_at: again }));
  const { reason, availableAgainAt } = stage.emitted("blocked").at(-1).detail;
  assert.deepEqual([reason, availableAgainAt], ["window", again]);
  stage.answer(stage.waiting("end"), 200, {});
  stage.pass(3600_000, () => stage.unanswered.forEach((each) => stage.answer(each, 200, { eligible: stage.mono > 3590_000 })));
  assert.equal(stage.emitted("unblocked").length, 1, "it asks again when it was told to");
  assert.equal(stage.plays, false, "after an hour nobody is waiting any more");
});

test("after a reset nothing starts by itself", () => {
  const stage = playing(5);
  stage.pass(5000);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 0));
  stage.send({ type: "message", name: "day_reset", data: {} });
  stage.answer(stage.waiting("eligible"), 200, { eligible: true, remaining_seconds: 7200 });
  assert.deepEqual(stage.emitted("unblocked").at(-1).detail, { resumes: false });
  assert.equal(stage.waiting("beat"), undefined);
});

test("each warning comes once, and again after more time was given", () => {
  const stage = playing(1000);
  const beat = (seconds, enforcement) => {
    stage.send({ type: "message", name: "other", data: null });
    stage.answer(stage.waiting("beat"), 200, answerAt(stage, seconds, { enforcement }));
  };
  beat(900, "warning_15");
  beat(890, "warning_15");
  beat(300, "warning_5");
  beat(290, "warning_15");
  beat(1200, "allowed");
  beat(900, "warning_15");
  beat(80, "warning_soon");
  assert.deepEqual(stage.emitted("warning").map((entry) => entry.detail.minutes), [15, 5, 15, null]);
});

test("events that its own beats cause do not cause beats for ever", () => {
  const stage = playing(3000);
  let beats = 0;
  for (let i = 0; i < 50; i++) {
    const balance = { used_seconds: 1, remaining_seconds: stage.machine.state().remainingSeconds };
    stage.send({ type: "message", name: "viewing_time_updated", data: balance });
    const beat = stage.waiting("beat");
    if (beat) {
      beats += 1;
      stage.answer(beat, 200, answerAt(stage, 3000 - stage.mono / 1000));
    }
    stage.pass(200);
  }
  assert.ok(beats <= 2, `${beats} beats in 10 s`);
});

test("a session that ends again and again is not opened again and again", () => {
  const stage = playing(3000);
  let opened = 0;
  stage.pass(60_000, () => stage.unanswered.forEach((each) => {
    if (each.kind !== "beat") return;
    if (each.body.session_id) stage.answer(each, 409, { code: "session_ended" });
    else {
      opened += 1;
      stage.answer(each, 200, answerAt(stage, 3000, { session_id: `s${opened + 1}`, next_beat_in: 0.1 }));
    }
  }));
  assert.ok(opened >= 1 && opened <= 15, `${opened} openings in a minute`);
});

test("two refusals end playback, one of the server's troubles does not", () => {
  for (const [status, code] of [[403, "profile_access_denied"], [404, "title_unknown"], [422, "invalid_input"]]) {
    const stage = new Stage({ wall: START });
    stage.send({ type: "play", titleId: "film", isRunning: true });
    stage.answer(stage.waiting("beat"), status, { code });
    assert.equal(stage.machine.phase, "refused");
    assert.deepEqual([stage.plays, stage.emitted("error").at(-1).detail.fatal], [false, true]);
    stage.pass(600_000);
    assert.equal(stage.waiting("beat"), undefined, "it does not ask on its own");
    stage.send({ type: "play", titleId: "other", isRunning: true });
    assert.ok(stage.waiting("beat"), "but when it is asked to");
  }
});

test("without a lease nothing plays, and it goes on with the next answer", () => {
  const stage = playing(3600, { offline: "never" });
  stage.pass(400_000, () => stage.unanswered.forEach((each) => stage.answer(each, 0)));
  assert.equal(stage.plays, false);
  const stop = stage.log.filter((entry) => entry.command === "pause").at(-1);
  assert.ok(Math.abs(stop.at - 301_000) < 100, "the lease was five minutes");
  assert.equal(stage.emitted("offline").length, 1);
  stage.pass(10_000);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 3300));
  assert.equal(stage.plays, true);
});

test("offline it plays as long as the last balance allows, and says when that ends", () => {
  const stage = playing(60);
  stage.pass(1000);
  stage.send({ type: "end" });
  stage.answer(stage.waiting("end"), 200, {});
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(300_000, () => stage.unanswered.forEach((each) => stage.answer(each, 0)));
  assert.equal(stage.plays, false);
  assert.equal(stage.emitted("blocked").at(-1).detail.offline, true);
  const watched = [...stage.store.stretches.values()].reduce((sum, each) => sum + each.interval.watched_seconds, 0);
  assert.ok(Math.abs(watched - 60) < 1, `${watched} s were played offline`);
});

test("offline nothing plays beyond the end of a window, however little was watched since", () => {
  const stage = new Stage({ wall: START });
  const unreachable = () => stage.unanswered.forEach((each) => stage.answer(each, 0));
  const watched = () => [...stage.store.stretches.values()].reduce((sum, each) => sum + each.interval.watched_seconds, 0);
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.answer(stage.waiting("beat"), 200, { ...answerAt(stage, 3600), reason: "window" });
  stage.pass(1000);
  stage.send({ type: "end" });
  stage.answer(stage.waiting("end"), 200, {});
  stage.pass(3_000_000); // fifty minutes of the hour pass
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(900_000, unreachable);
  assert.equal(stage.plays, false);
  assert.ok(Math.abs(watched() - 599) < 2, `${watched()} s were played offline`);
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(60_000, unreachable);
  assert.equal(stage.plays, false);
  stage.pass(86_400_000, unreachable);
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(60_000, unreachable);
  assert.ok(Math.abs(watched() - 599) < 2, "nor on the next day: when a window opens is not known");
});

/** A player that lost its connection after an answer: seconds that were left, what else it said. */
function cutOff(seconds, more) {
  const stage = new Stage({ wall: START });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, seconds, more));
  stage.pass(1000);
  stage.send({ type: "end" });
  stage.answer(stage.waiting("end"), 200, {});
  return stage;
}

const unreachable = (stage) => () => stage.unanswered.forEach((each) => stage.answer(each, 0));
const closing = (seconds) => new Date(START + seconds * 1000).toISOString();

test("offline it stops when a window closes, although more of the daily limit is left", () => {
  const stage = cutOff(3600, { reason: "daily_limit", closes_at: closing(900) });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(2_000_000, unreachable(stage));
  const stopped = stage.log.filter((entry) => entry.command === "pause").at(-1);
  assert.ok(Math.abs(stopped.at - 1000 - 900_000) <= 1000, `it stopped at ${stopped.at}`);
  const { reason, offline, availableAgainAt } = stage.emitted("blocked").at(-1).detail;
  assert.deepEqual([reason, offline, availableAgainAt], ["window", true, null]);
});

test("offline it stops when a window closes, however often the film was paused before", () => {
  const stage = cutOff(3600, { reason: "daily_limit", closes_at: closing(900) });
  for (let minute = 0; minute < 13; minute++) {
    stage.send({ type: "play", titleId: "film", isRunning: true });
    stage.pass(10_000, unreachable(stage));
    stage.send({ type: "pause" });
    stage.pass(50_000, unreachable(stage));
  }
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(600_000, unreachable(stage));
  const stopped = stage.log.filter((entry) => entry.command === "pause").at(-1);
  assert.ok(Math.abs(stopped.at - 1000 - 900_000) <= 1000, `it stopped at ${stopped.at}`);
});

test("offline it stops when a window closes, however long the film waited for its data", () => {
  const stage = cutOff(3600, { reason: "daily_limit", closes_at: closing(900) });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(300_000, unreachable(stage));
  stage.send({ type: "buffering", on: true });
  stage.pass(120_000, unreachable(stage));
  stage.send({ type: "buffering", on: false });
  stage.pass(900_000, unreachable(stage));
  const stopped = stage.log.filter((entry) => entry.command === "pause").at(-1);
  assert.ok(Math.abs(stopped.at - 1000 - 900_000) <= 1000, `it stopped at ${stopped.at}`);
});

test("offline it stops at the daily limit where a window closes later", () => {
  const stage = cutOff(600, { reason: "daily_limit", closes_at: closing(3600) });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(2_000_000, unreachable(stage));
  const watched = [...stage.store.stretches.values()].reduce((sum, each) => sum + each.interval.watched_seconds, 0);
  assert.ok(Math.abs(watched - 600) < 1, `${watched} s were played offline`);
  assert.equal(stage.emitted("blocked").at(-1).detail.reason, "daily_limit");
});

test("a window that an answer no longer names closes nothing", () => {
  const stage = new Stage({ wall: START });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 3600, { reason: "daily_limit", closes_at: closing(60) }));
  stage.send({ type: "message", name: "other", data: null });
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 3600, { reason: "daily_limit" }));
  stage.send({ type: "end" });
  stage.answer(stage.waiting("end"), 200, {});
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(600_000, unreachable(stage));
  assert.equal(stage.plays, true);
});

test("what is left of the title is told with the option, where it is known, and not without", () => {
  const sent = (options, remaining, title = "film") => {
    const stage = new Stage({ wall: START, ...options });
    stage.machine.handle({ type: "play", titleId: title, isRunning: true }, { ...stage.now, remaining })
      .forEach((effect) => stage.obey(effect));
    return stage.waiting("beat").body.title_remaining_seconds;
  };
  const tells = { tellRemaining: true };
  assert.deepEqual([12.3456, 0, 86_401, Infinity].map((remaining) => sent(tells, remaining)), [12.346, 0, 86_400, 86_400]);
  for (const unknown of [NaN, -1, undefined]) assert.equal(sent(tells, unknown), undefined);
  assert.equal(sent({}, 12), undefined);
});

test("the time that was borrowed is told until an answer no longer names it", () => {
  const stage = playing(600);
  const beat = (more) => {
    stage.send({ type: "message", name: "other", data: null });
    stage.answer(stage.waiting("beat"), 200, answerAt(stage, 600, more));
    return stage.machine.state().borrowedSeconds;
  };
  assert.deepEqual([beat({}), beat({ borrowed_seconds: 90 }), beat({})], [0, 90, 0]);
});

test("a device that has never heard of a balance plays nothing offline", () => {
  const stage = new Stage({ wall: START });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.pass(60_000, () => stage.unanswered.forEach((each) => stage.answer(each, 0)));
  assert.equal(stage.plays, false);
  assert.deepEqual(stage.emitted("offline").map((entry) => entry.detail.mayPlay), [false]);
});

test("an end is repeated until it is answered, with the same claim", () => {
  const stage = playing(3600);
  stage.pass(5000);
  stage.send({ type: "end" });
  const claims = [];
  stage.pass(120_000, () => stage.unanswered.forEach((each) => {
    claims.push(each.body.watched_seconds);
    stage.answer(each, claims.length < 4 ? 503 : 200, {}, claims.length < 4 ? 2 : undefined);
  }));
  assert.deepEqual(claims, [5, 5, 5, 5]);
  assert.equal(stage.store.ends.size, 0);
});

test("an end that an earlier page could not tell is told by the next", () => {
  const stage = new Stage({ wall: START, loaded: false });
  stage.send({ type: "stored", ends: [{ id: "old", watched: 7000 }] });
  const end = stage.waiting("end");
  assert.ok(end.path.endsWith("session/old/end"));
  assert.deepEqual(end.body, { watched_seconds: 7 });
});

test("with the option every heartbeat asks for a signed lease, and the state holds the newest one", () => {
  const stage = new Stage({ wall: START, lease: true });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  assert.equal(stage.waiting("beat").body.lease, true);
  assert.equal(stage.machine.state().playbackLease, null);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 60, { playback_lease: "first" }));
  assert.equal(stage.machine.state().playbackLease, "first");
  stage.pass(31_000);
  assert.equal(stage.waiting("beat").body.lease, true);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 0, { playback_lease: null }));
  assert.equal(stage.machine.state().playbackLease, null);
});

test("without the option no heartbeat asks for a lease", () => {
  const stage = playing(60);
  stage.pass(31_000);
  assert.equal("lease" in stage.waiting("beat").body, false);
  assert.equal(stage.machine.state().playbackLease, null);
});

test("the position is told with the option, where it is known, and not without", () => {
  const sent = (options, position) => {
    const stage = new Stage({ wall: START, ...options });
    stage.machine.handle({ type: "play", titleId: "film", isRunning: true }, { ...stage.now, position })
      .forEach((effect) => stage.obey(effect));
    return stage.waiting("beat").body.position_seconds;
  };
  assert.equal(sent({ tellPosition: true }, 12.3456), 12.346);
  assert.equal(sent({ tellPosition: true }, 0), 0);
  assert.equal(sent({ tellPosition: true }, NaN), undefined);
  assert.equal(sent({ tellPosition: true }, undefined), undefined);
  assert.equal(sent({}, 12), undefined);
});

// --- watching together

const ME = "p".repeat(36);

function told(id, seconds, more = {}) {
  return {
    profile_id: id, session_id: `session-of-${id}`, enforcement: seconds > 0 ? "allowed" : "blocked", remaining_seconds: seconds,
    used_seconds: 0, ...more,
  };
}

function together(seconds, coViewers, more = {}) {
  const stage = new Stage({ wall: START, coViewers: coViewers.map((one) => one.profile_id) });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, seconds, { co_viewers: coViewers, ...more }));
  return stage;
}

const named = (stage) => stage.waiting("beat").body.co_viewers;
const ends = (stage) => stage.requests.filter((request) => request.kind === "end").map((request) => request.path.split("/").at(-2));

test("co-viewers are named without a session first, and then with their own and what they watched", () => {
  const stage = new Stage({ wall: START, coViewers: ["ben", ME, "ben"] });
  stage.send({ type: "play", titleId: "film", isRunning: true });
  assert.equal(JSON.stringify(named(stage)), '[{"profile_id":"ben"}]');
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 600, { co_viewers: [told("ben", 900)] }));
  stage.pass(30_000);
  assert.deepEqual(named(stage), [{ profile_id: "ben", session_id: "session-of-ben", watched_seconds: 30 }]);
});

test("each child's remaining time is told with every answer and runs on in the state", () => {
  const stage = together(600, [told("ben", 900), told("eva", null)]);
  assert.deepEqual(stage.emitted("coviewer").map((entry) => [entry.detail.profileId, entry.detail.remainingSeconds]), [
    ["ben", 900], ["eva", null],
  ]);
  stage.pass(10_000);
  assert.deepEqual(stage.machine.state(stage.now).coViewers.map((child) => child.remainingSeconds), [890, null]);
  assert.equal(stage.machine.state(stage.now).remainingSeconds, 590);
});

test("a child that joins is named at once, and one that leaves has its session ended once", () => {
  const stage = together(600, [told("ben", 900)]);
  stage.pass(10_000);
  stage.send({ type: "together", profileIds: ["eva"] });
  assert.deepEqual(ends(stage), ["session-of-ben"]);
  assert.deepEqual(stage.waiting("end").body, { watched_seconds: 10 });
  assert.deepEqual(named(stage).map((one) => one.profile_id), ["eva"]);
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 590, { co_viewers: [told("eva", 60)] }));
  assert.deepEqual(stage.machine.state().coViewers.map((child) => child.profileId), ["eva"]);
  assert.equal(ends(stage).length, 1);
});

test("a child that left while the heartbeat that opened its session was on its way is not left running", () => {
  const stage = together(600, []);
  stage.send({ type: "together", profileIds: ["ben"] });
  const beat = stage.waiting("beat");
  stage.send({ type: "together", profileIds: [] });
  stage.answer(beat, 200, answerAt(stage, 600, { co_viewers: [told("ben", 900)] }));
  assert.deepEqual(ends(stage), ["session-of-ben"]);
});

test("the end of playback ends all sessions, also those of an opening that nobody wants any more", () => {
  const stage = together(600, [told("ben", 900), told("eva", 900)]);
  stage.send({ type: "end" });
  assert.deepEqual(ends(stage).sort(), ["s1", "session-of-ben", "session-of-eva"]);
  const late = new Stage({ wall: START, coViewers: ["ben"] });
  late.send({ type: "play", titleId: "film", isRunning: true });
  late.send({ type: "end" });
  late.answer(late.waiting("beat"), 200, answerAt(late, 600, { co_viewers: [told("ben", 900)] }));
  assert.deepEqual(ends(late).sort(), ["s1", "session-of-ben"]);
});

test("a child that watches elsewhere is named no more, and the film goes on", () => {
  const stage = together(600, [told("ben", 900), told("eva", 900)]);
  stage.pass(30_000);
  const gone = { profile_id: "ben", problem: { code: "session_superseded", by: { device_type: "tablet" } } };
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 570, { co_viewers: [gone, told("eva", 870)] }));
  assert.equal(stage.emitted("coviewer").find((entry) => entry.detail.code).detail.code, "session_superseded");
  assert.equal(stage.plays, true);
  stage.pass(30_000);
  assert.deepEqual(named(stage).map((one) => one.profile_id), ["eva"]);
  assert.deepEqual(ends(stage), [], "its session is over already");
});

test("a co-viewer's session that was over by silence is opened again", () => {
  const stage = together(600, [told("ben", 900)]);
  stage.pass(30_000);
  const over = { profile_id: "ben", problem: { code: "session_ended" } };
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 570, { co_viewers: [over] }));
  stage.pass(30_000);
  assert.equal(JSON.stringify(named(stage)), '[{"profile_id":"ben"}]');
});

test("take-over of the profile itself ends the sessions of its co-viewers", () => {
  const stage = together(600, [told("ben", 900)]);
  stage.pass(30_000);
  stage.answer(stage.waiting("beat"), 409, { code: "session_superseded", by: { device_type: "tv" } });
  assert.equal(stage.plays, false);
  assert.deepEqual(ends(stage), ["session-of-ben"]);
});

test("the time of another child stops the film, says whose it was, and that child's time is asked for", () => {
  const at = (ms) => new Date(START + ms).toISOString();
  const stage = together(3600, [told("ben", 20)], { stop_at: at(20_000), lease_seconds: 20, next_beat_in: 20, decided_by: "ben" });
  stage.pass(20_000);
  assert.equal(stage.plays, false);
  assert.equal(stage.emitted("blocked").at(-1).detail.profileId, "ben");
  assert.ok(stage.machine.state().remainingSeconds > 3500, "its own time is not over");
  const blocked = { enforcement: "blocked", stop_at: at(20_000), lease_seconds: 0, decided_by: "ben", reason: "daily_limit" };
  stage.answer(stage.waiting("beat"), 200, answerAt(stage, 3580, { co_viewers: [told("ben", 0)], ...blocked }));
  assert.deepEqual(ends(stage).sort(), ["s1", "session-of-ben"]);
  stage.pass(75_000);
  assert.ok(stage.waiting("eligible").path.includes("playback-eligible/ben"));
  stage.send({ type: "together", profileIds: [] });
  stage.answer(stage.waiting("eligible"), 200, { eligible: false });
  assert.ok(stage.waiting("eligible").path.includes(`playback-eligible/${ME}`), "without him only our own time matters");
  stage.answer(stage.waiting("eligible"), 200, { eligible: true, remaining_seconds: 3580 });
  assert.equal("co_viewers" in stage.waiting("beat").body, false);
});

test("a warning for another child tells its own time", () => {
  const stage = together(3600, [told("ben", 290)], { enforcement: "warning_5", decided_by: "ben" });
  const { minutes, remainingSeconds, profileId } = stage.emitted("warning").at(-1).detail;
  assert.deepEqual([minutes, remainingSeconds, profileId], [5, 290, "ben"]);
});

test("junk in place of co-viewers changes nothing", () => {
  for (const junk of [7, "x", {}, [null, 5, {}], null]) {
    const stage = together(600, [], { co_viewers: junk });
    assert.equal(stage.plays, true);
    assert.deepEqual(stage.machine.state().coViewers, []);
  }
});
