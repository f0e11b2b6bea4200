/** What stands around the machine, with a service, a store and a media element that misbehave. */
import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { HourglassPlayer, MemoryStorage, PlaybackMachine } from "../../app/sdk/player/hourglass-player.js";

const { setTimeout: start } = globalThis;
globalThis.setTimeout = (action, ms, ...more) => {
  const timer = start(action, ms, ...more);
  return ms > 3000 ? timer.unref() : timer; // no deadline holds up the end of the tests
};

const ANSWER = {
  session_id: "s1", enforcement: "allowed", remaining_seconds: 3600, used_seconds: 0, is_educational: false,
  stop_at: null, next_beat_in: 30, lease_seconds: 300, next_reset_at: "2099-01-01T06:00:00Z",
};
const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });

class Media extends EventTarget {
  paused = true;
  ended = false;
  currentTime = 0;
  play() {
    if (this.paused) {
      this.paused = false;
      queueMicrotask(() => this.dispatchEvent(new Event("play")));
    }
    return Promise.resolve();
  }
  pause() {
    if (!this.paused) {
      this.paused = true;
      queueMicrotask(() => this.dispatchEvent(new Event("pause")));
    }
  }
}

/** A player with a service made of a function; the event stream stays empty unless the test says otherwise. */
function stage(service, more = {}) {
  const calls = [];
  const player = new HourglassPlayer({
    url: "https://viewing.example", token: async () => "t1", profileId: "child", deviceId: "d", versionCheck: false,
    storage: new MemoryStorage(),
    fetch: async (url, options) => {
      const path = url.replace("https://viewing.example/api/v1/viewing-time/", "");
      const call = { path, ...options, body: options.body ? JSON.parse(options.body) : null };
      calls.push(call);
      if (path.startsWith("events/")) return more.events ? more.events(call) : json(404, {});
      return service(call, calls);
    },
    ...more,
  });
  const log = [];
  for (const name of ["warning", "blocked", "unblocked", "superseded", "update", "offline", "error", "message"]) {
    player.on(name, (detail) => log.push({ name, detail }));
  }
  return { player, calls, log };
}

async function until(condition, what, ms = 3000) {
  const deadline = Date.now() + ms;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("the film waits for the first answer, then plays", async () => {
  let release;
  const { player } = stage((call) => (call.path === "heartbeat" ? new Promise((resolve) => (release = resolve)) : json(200, {})));
  const media = new Media();
  player.attach(media, { titleId: "film" });
  media.play();
  await until(() => release, "a beat");
  assert.equal(media.paused, true);
  release(json(200, ANSWER));
  await until(() => !media.paused, "it plays");
  assert.equal(player.state.phase, "playing");
  player.destroy();
});

test("what is left of a title is what its media element has left, at the speed that it plays", async () => {
  const { player, calls } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}), { tellRemaining: true });
  const media = Object.assign(new Media(), { duration: 100, currentTime: 40, playbackRate: 2 });
  player.attach(media, { titleId: "film" });
  media.play();
  await until(() => calls.some((call) => call.path === "heartbeat"), "a beat");
  assert.equal(calls.find((call) => call.path === "heartbeat").body.title_remaining_seconds, 30);
  player.destroy();
});

test("a pause of the child's is seen, also after the player has commanded one in vain", async () => {
  const { player } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}));
  const media = new Media();
  player.attach(media, { titleId: "film" });
  media.play();
  await until(() => player.state.phase === "playing" && !media.paused, "it plays");
  media.paused = true; // without an event, as when another source is set
  player._do_command({ name: "pause" });
  await media.play();
  await new Promise((resolve) => setTimeout(resolve, 10));
  media.pause();
  await until(() => player.machine.wish === "pause", "it is seen");
  player.destroy();
});

test("where fetch has no streams, a ticket opens the browser's own", async () => {
  const opened = [];
  globalThis.EventSource = class extends EventTarget {
    constructor(url) {
      super();
      opened.push({ url, source: this });
    }
    close() {
      this.isClosed = true;
    }
  };
  const { player, log, calls } = stage(
    (call) => (call.path === "events-ticket" ? json(201, { ticket: "a+b", expires_in: 60 }) : json(200, {})),
    { events: () => ({ status: 200, headers: new Headers(), body: undefined }) },
  );
  player.listen();
  await until(() => opened.length === 1, "a native stream");
  assert.equal(opened[0].url, "https://viewing.example/api/v1/viewing-time/events/child?ticket=a%2Bb");
  assert.deepEqual(calls.find((call) => call.path === "events-ticket").body, { profile_id: "child" });
  opened[0].source.onopen();
  opened[0].source.dispatchEvent(Object.assign(new Event("day_reset"), { data: "{}", lastEventId: "9-0" }));
  assert.equal(log.find((entry) => entry.name === "message").detail.name, "day_reset");
  opened[0].source.onerror();
  await until(() => opened.length === 2, "another with another ticket");
  assert.equal(opened[0].source.isClosed, true);
  player.destroy();
  delete globalThis.EventSource;
});

test("what the player commands is not taken for the child's wish", async () => {
  const { player, calls } = stage((call) =>
    call.path === "heartbeat" ? json(200, { ...ANSWER, remaining_seconds: 0.3, stop_at: new Date(Date.now() + 300).toISOString(), lease_seconds: 0.3, next_beat_in: 0.3, server_time: new Date().toISOString() }) : json(200, {}));
  const media = new Media();
  player.attach(media, { titleId: "film" });
  media.play();
  await until(() => calls.filter((call) => call.path === "heartbeat").length >= 3, "the beats at the end");
  assert.ok(calls.filter((call) => call.path === "heartbeat").every((call) => call.body.is_paused === false));
  player.destroy();
});

test("an expired token is refreshed once for all who wait", async () => {
  let tokens = 0;
  const { player, calls } = stage(
    (call) => (call.headers.Authorization === "Bearer t1" ? json(401, { code: "unauthenticated" }) : json(200, call.path === "heartbeat" ? ANSWER : { requests: [] })),
    { token: async ({ refused }) => {
      tokens += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return refused ? "t2" : "t1";
    } },
  );
  player.play("film");
  const [first, second] = await Promise.all([player.requests(), player.requests()]);
  await until(() => player.state.phase === "playing", "it plays");
  assert.deepEqual([first, second], [[], []]);
  assert.equal(tokens, 2);
  assert.ok(calls.some((call) => call.headers.Authorization === "Bearer t2"));
  player.destroy();
});

const misbehaving = {
  "an HTML page with status 200": () => new Response("<html>captive portal</html>", { status: 200 }),
  "a list": () => json(200, []),
  "an answer without a lease": () => json(200, { ...ANSWER, lease_seconds: undefined }),
  "an answer of strings": () => json(200, { ...ANSWER, next_beat_in: "soon" }),
  "no network": () => Promise.reject(new TypeError("Failed to fetch")),
  "a body that breaks off": () => new Response(new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('{"session'));
      controller.error(new Error("aborted"));
    },
  }), { status: 200 }),
  "a server error without a body": () => new Response(null, { status: 502 }),
  "a teapot": () => json(418, {}),
};

describe("whatever the service answers", { concurrency: true }, () => {
  for (const [name, answer] of Object.entries(misbehaving)) {
    test(`within its lease the film goes on through ${name}`, async () => {
      let beats = 0;
      const { player, log } = stage((call) => {
        if (call.path !== "heartbeat") return json(200, {});
        beats += 1;
        return beats === 1 ? json(200, { ...ANSWER, next_beat_in: 0.1 }) : answer();
      });
      const media = new Media();
      player.attach(media, { titleId: "film" });
      media.play();
      await until(() => beats >= 3, "it asks again");
      assert.equal(media.paused, false);
      assert.ok(!log.some((entry) => entry.name === "error" && entry.detail.code === "internal"));
      player.destroy();
    });
  }
});

for (const [name, storage] of Object.entries({
  rejects: { change: () => Promise.reject(new Error("QuotaExceededError")) },
  throws: { change: () => { throw new Error("SecurityError"); } },
  "never answers": { change: () => new Promise(() => {}) },
})) {
  test(`a store that ${name} keeps nobody from watching`, async () => {
    const { player } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}), { storage });
    player.play("film");
    await until(() => player.state.phase === "playing", "it plays", 5000);
    player.destroy();
  });
}

test("asking for the state, however often, takes nothing from what was watched", async () => {
  const { player } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}));
  player.play("film");
  await until(() => player.state.phase === "playing", "it plays");
  const began = performance.now();
  while (performance.now() - began < 400) {
    assert.ok(player.state.remainingSeconds <= 3600);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  player.pause();
  assert.ok(player.state.watchedSeconds >= 0.39, `${player.state.watchedSeconds} s`);
  player.destroy();
});

test("a listener that throws disturbs nobody", async () => {
  const said = console.error;
  console.error = () => {};
  const { player } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}));
  player.on("update", () => {
    throw new Error("of the page");
  });
  player.play("film");
  await until(() => player.state.phase === "playing", "it plays");
  player.destroy();
  console.error = said;
});

test("a fault of our own is told, and the film goes on", async () => {
  const { player, log } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}));
  const media = new Media();
  player.attach(media, { titleId: "film" });
  media.play();
  await until(() => player.state.phase === "playing", "it plays");
  player.machine.handle = () => {
    throw new Error("a bug");
  };
  player.pause();
  await until(() => log.some((entry) => entry.name === "error" && entry.detail.code === "internal"), "it is told");
  assert.equal(media.paused, false);
  player.destroy();
});

test("events come in pieces, and a stream that breaks is resumed after the last", async () => {
  const resumed = [];
  let streams = 0;
  const text = ': connected\n\nid: 7-0\nevent: viewing_time_updated\ndata: {"used_seconds": 1,\ndata: "remaining_seconds": 900}\n\nid: 8-0\nevent: later_kind\ndata: not json\n\n';
  const { player, log } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}), {
    events: (call) => {
      resumed.push(call.headers["Last-Event-ID"]);
      streams += 1;
      return new Response(new ReadableStream({
        async start(controller) {
          for (const letter of streams === 1 ? text : "") {
            controller.enqueue(new TextEncoder().encode(letter));
            if (letter === "\n") await new Promise((resolve) => setTimeout(resolve, 1));
          }
          if (streams === 1) controller.close();
        },
      }));
    },
  });
  player.listen();
  await until(() => streams === 2, "it comes back");
  assert.deepEqual(resumed, [undefined, "8-0"]);
  const messages = log.filter((entry) => entry.name === "message").map((entry) => entry.detail);
  assert.deepEqual(messages, [
    { name: "viewing_time_updated", data: { used_seconds: 1, remaining_seconds: 900 } },
    { name: "later_kind", data: null },
  ]);
  player.destroy();
});

test("the end is told with keepalive when the page goes", async () => {
  const { player, calls } = stage((call) => json(200, call.path === "heartbeat" ? ANSWER : {}));
  player.play("film");
  await until(() => player.state.phase === "playing", "it plays");
  player.destroy();
  await until(() => calls.some((call) => call.path === "session/s1/end" && call.keepalive), "the end");
});

test("asking for time carries one key through its repeats", async () => {
  const keys = [];
  const { player } = stage((call) => {
    keys.push(call.headers["Idempotency-Key"]);
    return keys.length < 3 ? json(503, {}) : json(201, { request_id: "r1", status: "open" });
  });
  assert.deepEqual(await player.ask(15, "please"), { request_id: "r1", status: "open" });
  assert.equal(new Set(keys).size, 1);
  assert.ok(keys[0]);
  player.destroy();
});

test("stretches of two tabs become one batch, which is the same until it is answered", async () => {
  const storage = new MemoryStorage();
  const tabs = [0, 1].map(() => stage(() => Promise.reject(new TypeError("offline")), { storage }).player);
  const interval = (n) => ({ title_id: `t${n}`, started_at: "2026-01-01T00:00:00Z", ended_at: "2026-01-01T00:01:00Z", watched_seconds: 60 });
  const put = (n, isOpen = false) => tabs[n % 2].store.put(`stretch/${n}`, { interval: interval(n), isOpen, savedAt: 1000, lastServerTime: n });
  await Promise.all([put(0), put(1), put(2, true)]);
  const [one, two] = await Promise.all([tabs[0].store.takeBatch("a", 2000), tabs[1].store.takeBatch("b", 2000)]);
  assert.deepEqual(one, two);
  assert.deepEqual(one.intervals, [interval(0), interval(1)]);
  await put(3);
  assert.deepEqual(await tabs[1].store.takeBatch("c", 2000), one);
  await tabs[0].store.forgetBatch("other");
  assert.deepEqual(await tabs[1].store.takeBatch("c", 2000), one);
  await tabs[0].store.forgetBatch(one.id);
  const rest = await tabs[0].store.takeBatch("d", 200_000); // the open one was left behind by a tab that crashed
  assert.deepEqual(rest.intervals.map((each) => each.title_id), ["t2", "t3"]);
  for (const tab of tabs) tab.destroy();
});

test("the built module holds the same machine as its source", async () => {
  const source = await import("../../app/sdk/player/src/hourglass-player.js");
  assert.equal(typeof PlaybackMachine, "function");
  const built = await import("../../app/sdk/player/hourglass-player.js");
  assert.deepEqual(Object.keys(built).sort(), Object.keys(source).sort());
  assert.equal(built.VERSION, source.VERSION);
});
