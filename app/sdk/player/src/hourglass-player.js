/**
 * Hourglass player SDK: heartbeats, exact stops, leases, take-over and offline playback for one player.
 *
 * Two parts. `PlaybackMachine` is pure: events and instants go in, requests and player commands come out.
 * `HourglassPlayer` stands around it with timers, fetch, storage and the media element.
 * Syntax is ES2018, for televisions of 2019. MIT licence.
 */
export const VERSION = "1.0.0";

const TICK_MS = 2000; // while it plays; a later tick means that the device slept
const SLEEP_MS = 90000; // browsers delay timers of hidden pages by a minute at most
const RETRY_MS = 1000;
const CLOCK_STEP_MS = 2000;
const CHECK_MS = 60000;
const PROBE_MS = 5000;
const CHECKPOINT_MS = 5000;
const SYNC_TRIES = 3;
const SPARE_MS = 2000; // less than this is not worth opening a session for
const RESUME_MS = 600000; // after so long nobody waits in front of the screen
const EVENT_BEAT_MS = 20000;
const TIMEOUT_MS = 10000;
const MAX_TITLE_SECONDS = 86400;
const STREAM_SILENCE_MS = 40000;
const EVENTS = ["viewing_time_updated", "blocked", "day_reset", "session_superseded", "request_answered"];

const busy = (status) => status === 0 || status === 401 || status === 408 || status === 429 || status >= 500;
const isNumber = Number.isFinite;
const seconds = (ms) => Math.round(ms) / 1000;
const millis = (text) => (text ? Date.parse(text) : NaN);
const othersIn = (body) => (Array.isArray(body.co_viewers) ? body.co_viewers.filter((told) => told && told.profile_id) : []);
const isAnswer = (body) =>
  !!body && typeof body.session_id === "string" && typeof body.enforcement === "string" &&
  isNumber(body.next_beat_in) && isNumber(body.lease_seconds);

/**
 * The state machine. It reads no clock, sets no timer and sends nothing.
 *
 * `handle(event, now)` returns effects; `now` is `{mono, wall, position, remaining}`: ms of a monotonic clock, ms of
 * the device's clock, and in seconds, if known, the position of the media and what is left of the title. `wakeAt` is
 * the next instant (mono) at which it wants a `tick`.
 */
export class PlaybackMachine {
  constructor(options) {
    this.profileId = options.profileId;
    this.deviceId = options.deviceId;
    this.deviceType = options.deviceType || "web";
    this.offlinePolicy = options.offline || "last-known";
    this.autoResume = options.autoResume !== false;
    this.lease = !!options.lease;
    this.tellsPosition = !!options.tellPosition;
    this.tellsRemaining = !!options.tellRemaining;
    this._setTogether(options.coViewers);
    this.partners = {}; // the session of each co-viewer, by profile
    this.random = options.random || Math.random;
    this.newId = options.newId;
    this.phase = "idle"; // opening, playing, stopping, blocked, superseded, refused, offline
    this.wish = "stop"; // what the host wants: play, pause, stop
    this.title = null;
    this.permitted = false; // whether the media may run
    this.running = false; // whether it runs
    this.buffering = false;
    this.frozen = false;
    this.session = null;
    this.answer = null; // the last answer that told a balance
    this.ends = [];
    this.calls = {}; // what awaits an answer, by id
    this.callCount = 0;
    this.beatCall = 0;
    this.beatAgain = false;
    this.failures = 0;
    this.silent = 0; // failures without any answer
    this.beatAt = this.stopAt = this.leaseUntil = this.checkAt = this.syncAt = this.probeAt = Infinity;
    this.blockedAt = 0;
    this.told = false; // that the time is over, before the service has said so
    this.saidReason = null;
    this.eventBeatAt = -Infinity;
    this.offset = null; // server's clock − mono
    this.offsetError = Infinity;
    this.warned = Infinity;
    this.loaded = false;
    this.contact = null;
    this.pending = false; // offline stretches wait for their sync
    this.syncing = false;
    this.syncTries = 0;
    this.stretch = null;
    this.connected = true;
    this.streaming = false;
    this.streamOpen = false;
    this.hidden = false;
    this.effects = [];
    this.clock = null;
  }

  handle(event, now) {
    this.effects = [];
    this._advance(now);
    const handler = this["_on_" + event.type];
    if (handler) handler.call(this, event);
    this._deadlines();
    this._reconcile();
    return this.effects;
  }

  get wakeAt() {
    const times = [this.syncAt];
    if (this._mayBeat()) times.push(this.beatAt);
    if (this.running) times.push(this.stopAt, this.leaseUntil);
    if (this.running) times.push(this.clock.mono + TICK_MS);
    if (this.phase === "blocked") times.push(this.checkAt);
    if (this.phase === "offline") times.push(this.probeAt);
    for (const end of this.ends) if (!end.call) times.push(end.at);
    return Math.min.apply(null, times);
  }

  /** What a page shows at an instant; asking changes nothing. */
  state(now = this.clock) {
    const answer = this.answer || {};
    let remaining = this._remaining(answer, now);
    if (this.stretch) remaining = isFinite(this.budgetLeft) ? seconds(Math.max(0, this.budgetLeft)) : null;
    return {
      phase: this.phase,
      titleId: this.title,
      sessionId: this.session ? this.session.id : null,
      enforcement: answer.enforcement || null,
      reason: answer.reason || null,
      remainingSeconds: remaining,
      borrowedSeconds: answer.borrowed_seconds || 0,
      usedSeconds: isNumber(answer.used_seconds) ? answer.used_seconds : null,
      watchedSeconds: this.session ? seconds(this.session.watched) : 0,
      isEducational: !!answer.is_educational,
      isMeasuring: this._counts(),
      nextResetAt: answer.next_reset_at || null,
      stopAt: answer.stop_at || null,
      playbackLease: (this.session && this.session.lease) || null,
      coViewers: othersIn(answer).filter((told) => this._isWith(told.profile_id)).map((told) => this._told(told, now)),
      connected: this.connected,
    };
  }

  /** The seconds that an answer left, as of now. */
  _remaining(answer, now) {
    if (!isNumber(answer.remaining_seconds)) return null;
    const passed = this._counts() && isFinite(this.stopAt) ? (now.mono - this.answeredAt) / 1000 : 0;
    return Math.max(0, answer.remaining_seconds - passed);
  }

  // --- co-viewers: each has a session of its own, which the heartbeat names

  _setTogether(ids) {
    this.together = Array.from(new Set(ids)).filter((id) => id !== this.profileId);
  }

  _isWith(id) {
    return this.together.includes(id);
  }

  _told(told, now) {
    return {
      profileId: told.profile_id,
      enforcement: told.enforcement,
      remainingSeconds: this._remaining(told, now),
      usedSeconds: told.used_seconds,
      code: (told.problem || {}).code || null,
    };
  }

  _on_together(event) {
    this._setTogether(event.profileIds);
    for (const id of Object.keys(this.partners)) if (!this._isWith(id)) this._part(id);
    if (this.session) this._beatNow();
    if (this.phase === "blocked") this._check("together");
  }

  _part(id, isClosing) {
    const { session_id, watched } = this.partners[id];
    delete this.partners[id];
    this._queueEnd(session_id, watched, isClosing);
  }

  /** Keep the sessions that an answer names for co-viewers, or end them if nobody wants them any more. */
  _meet(body, isWanted) {
    for (const told of othersIn(body)) {
      const id = told.profile_id;
      const code = (told.problem || {}).code;
      const isSame = this.partners[id] && this.partners[id].session_id === told.session_id;
      if (isWanted && this._isWith(id)) {
        if (code) delete this.partners[id];
        else if (!isSame) this.partners[id] = { session_id: told.session_id, watched: 0 };
        // A session that is over is opened again. A child that watches elsewhere is gone until the host names it again.
        if (/denied|supers/.test(code)) this.together.splice(this.together.indexOf(id), 1);
        this._say("coviewer", this._told(told, this.clock));
      } else if (!code && !isSame) this._queueEnd(told.session_id, 0, false);
    }
  }

  /** The time (ms) that is left to the first of all who watch, null without a limit. */
  _left(body) {
    const left = [body].concat(othersIn(body)).map((each) => each.remaining_seconds).filter(isNumber);
    return left.length ? Math.min.apply(null, left) * 1000 : null;
  }

  // --- the host

  _on_play(event) {
    if (event.titleId && event.titleId !== this.title) this._setTitle(event.titleId);
    if (event.isRunning) this.running = true;
    const was = this.wish;
    this.wish = "play";
    if (!this.title) return;
    this._stream(true);
    if (this.session) {
      if (this.phase === "stopping") return;
      this.permitted = this.clock.mono < this.leaseUntil && this.clock.mono < this.stopAt;
      if (was !== "play" || !this.permitted) this._beatNow();
    } else if (this.phase === "offline") this._goOffline();
    else if (this.phase !== "opening") this._start();
  }

  _on_pause() {
    this.running = false;
    if (this.wish !== "play") return;
    this.wish = "pause";
    this._closeStretch();
    if (this.session && this.phase === "playing") this._beatNow();
  }

  _on_buffering(event) {
    this.buffering = event.on;
  }

  _on_title(event) {
    if (event.titleId !== this.title) this._setTitle(event.titleId);
    if (this.phase === "blocked" && this.wish === "play") this._start();
  }

  _on_end() {
    this.wish = "stop";
    this._leave(false);
    if (!this.listening) this._stream(false);
    this._say("update");
  }

  /** The page goes away, perhaps into the back/forward cache. */
  _on_close() {
    if (this.wish === "play") this.wish = "pause";
    this._leave(true);
  }

  _on_freeze() {
    this.frozen = true;
  }

  _on_wake() {
    this.frozen = false;
    if (this.session) this._beatNow();
    if (this.phase === "blocked") this._check("wake");
  }

  _on_visibility(event) {
    this.hidden = event.hidden;
    if (!event.hidden && this.phase === "blocked") this._check("wake");
  }

  _on_network(event) {
    if (!event.online) return;
    this.failures = 0;
    if (this.phase === "offline") this._probe();
    else if (this._mayBeat()) this._beatNow();
    for (const end of this.ends) end.at = this.clock.mono;
    if (isFinite(this.syncAt)) this.syncAt = this.clock.mono;
  }

  _on_refresh() {
    this.listening = true;
    this._stream(true);
    this._request("balance", "GET", "balance/" + this.profileId);
  }

  _setTitle(titleId) {
    const isOffline = !!this.stretch;
    this._closeStretch();
    this.title = titleId;
    if (isOffline) this._beginStretch();
    if (this.session) this._beatNow();
  }

  _leave(isClosing) {
    this._closeStretch();
    this._end(isClosing);
    this.phase = "idle";
    this.permitted = false;
    this.beatAt = this.stopAt = this.leaseUntil = this.probeAt = Infinity;
  }

  // --- opening

  _start() {
    this.phase = "opening";
    this.failures = this.silent = this.syncTries = 0;
    this.beatAt = this.stopAt = Infinity;
    this.leaseUntil = this.clock.mono + TIMEOUT_MS; // for media that runs already
    if (this.running && this.permitted) {
      this.budgetLeft = Infinity; // until the answer: the lease ends it
      this._beginStretch();
    }
    if (!this.loaded) return; // `stored` goes on
    if (this.pending) this._sync();
    else this._beat();
  }

  _on_stored(event) {
    this.loaded = true;
    this.contact = event.contact || this.contact;
    this.pending = !!event.pending;
    for (const end of event.ends || []) this.ends.push({ id: end.id, watched: end.watched, at: this.clock.mono, tries: 0 });
    if (this.phase === "opening") this._start();
    else if (this.pending) this._sync();
  }

  _mayBeat() {
    return (!!this.session || this.phase === "opening") && !this.beatCall && this.loaded;
  }

  _beatNow() {
    if (this.beatCall) this.beatAgain = true;
    else this._beat();
  }

  _beat() {
    if (!this.title || this.beatCall) return;
    const session = this.session;
    const body = {
      profile_id: this.profileId,
      title_id: (session && session.pendingTitle) || this.title,
      device_id: this.deviceId,
      device_type: this.deviceType,
      is_paused: this.wish !== "play",
    };
    if (this.lease) body.lease = true;
    if (this.tellsPosition && this.clock.position >= 0) body.position_seconds = seconds(this.clock.position * 1000);
    const left = this.clock.remaining;
    if (this.tellsRemaining && left >= 0 && body.title_id === this.title) body.title_remaining_seconds = Math.min(MAX_TITLE_SECONDS, seconds(left * 1000));
    if (session) {
      body.session_id = session.id;
      body.watched_seconds = seconds(session.watched);
      // Until its answer comes, a change of title is repeated as it was.
      if (body.title_id !== session.title) session.pendingTitle = body.title_id;
    }
    if (this.together.length) {
      body.co_viewers = this.together.map((id) => {
        const { session_id, watched } = this.partners[id] || {};
        return { profile_id: id, session_id, watched_seconds: session_id && seconds(watched) };
      });
    }
    this.beatAgain = false;
    this.beatAt = Infinity;
    this.beatCall = this._request("beat", "POST", "heartbeat", body);
  }

  // --- answers

  _on_answer(event) {
    const call = this.calls[event.id];
    if (!call) return;
    delete this.calls[event.id];
    this["_answer_" + call.kind](call, event.status, event.body || {}, event.retryAfter);
  }

  _answer_beat(call, status, body, retryAfter) {
    this.beatCall = 0;
    if (status === 200 && !isAnswer(body)) status = 0; // junk is no answer
    if (status !== 0) this.silent = 0;
    const isOpening = !call.body.session_id;
    if (!isOpening && (!this.session || this.session.id !== call.body.session_id)) {
      this._meet(body, false);
      if (this.phase === "opening" && !this.syncing) this._beat();
      return; // it ended meanwhile
    }
    if (isOpening && this.phase !== "opening") {
      // Nobody wants it any more.
      if (status === 200) {
        this._queueEnd(body.session_id, 0, false);
        this._meet(body, false);
      }
      return;
    }
    if (status === 200) this._follow(call, body);
    else if (status === 409 && !isOpening) this._conflict(body);
    else if (busy(status) || (!isOpening && status !== 403)) this._unavailable(status, body, retryAfter, isOpening);
    else this._refuse(status, body);
  }

  _follow(call, body) {
    const now = this.clock.mono;
    this.failures = 0;
    this._reach(true);
    this._sample(call, body);
    this._closeStretch();
    if (this.pending && !this.syncing) this.syncAt = Math.min(this.syncAt, now + RETRY_MS); // what played until now
    if (!this.session || this.session.id !== body.session_id) {
      this.session = { id: body.session_id, title: call.body.title_id, pendingTitle: null, watched: 0, openedAt: now };
    }
    this.session.title = call.body.title_id;
    this.session.pendingTitle = null;
    this.session.lease = body.playback_lease || null;
    this.leaseUntil = now + body.lease_seconds * 1000;
    this.stopAt = this._stopInstant(body, now);
    this.beatAt = now + Math.max(100, body.next_beat_in * 1000);
    this._remember(body);
    this._meet(body, true);
    if (body.enforcement === "blocked") this._block(body);
    else if (this.phase !== "stopping" || this.stopAt - now > SPARE_MS) this._play(body);
    const isOutdated = this.session && (this.session.title !== this.title || call.body.is_paused !== (this.wish !== "play"));
    if (this.session && (this.beatAgain || isOutdated)) this._beat();
    this._say("update");
  }

  _play(body) {
    this.phase = "playing";
    this.permitted = true;
    if (this.told) this._say("unblocked", { resumes: true });
    this.told = false;
    this._warn(body);
  }

  _conflict(body) {
    if (body.code !== "session_ended") {
      this._superseded((body.by && body.by.device_type) || null, body.at || null);
      return;
    }
    const isYoung = this.clock.mono - this.session.openedAt < PROBE_MS;
    this.session = null;
    this.beatAgain = false;
    if (this.phase === "stopping") this._block({});
    else if (this.wish !== "play") this._leave(false);
    else if (isYoung) {
      this.phase = "opening";
      this.beatAt = this.clock.mono + PROBE_MS;
    } else this._start(); // over by silence: a new one is right
  }

  _superseded(deviceType, at) {
    this.session = null;
    this._end(false);
    this.phase = "superseded";
    this.permitted = false;
    this.beatAgain = false;
    this.beatAt = this.stopAt = Infinity;
    this.wish = "pause";
    this._say("superseded", { deviceType, at });
    this._say("update");
  }

  _unavailable(status, body, retryAfter, isOpening) {
    this.failures += 1;
    if (status === 0) this.silent += 1;
    this.beatAt = this.clock.mono + this._pause(retryAfter);
    if (status !== 0 && status !== 429 && status !== 503 && this.failures === 1) this._error(status, body, false);
    if (this.failures > 1) this._reach(false);
    if (this.phase === "stopping") this._block({});
    else if (isOpening && this.silent >= 2) this._goOffline();
  }

  _refuse(status, body) {
    this._end(false);
    this.phase = "refused";
    this.permitted = false;
    this.beatAt = this.stopAt = Infinity;
    this._error(status, body, true);
  }

  /** Milliseconds until the next attempt. */
  _pause(retryAfter) {
    if (isNumber(retryAfter)) return Math.max(100, retryAfter * 1000);
    return RETRY_MS * (1 + this.random()) * (this.failures > 5 ? 4 : 1);
  }

  // --- the end of the time

  _block(body) {
    const isNew = this.phase !== "blocked" && !this.told;
    this._end(false);
    this.phase = "blocked";
    this.permitted = false;
    this.told = false;
    this.blockedAt = this.clock.mono;
    this.beatAt = this.stopAt = this.warned = Infinity;
    this._planCheck();
    if (isNew || (body.reason && body.reason !== this.saidReason)) this._sayBlocked(body);
  }

  _sayBlocked(body) {
    const answer = body.next_reset_at ? body : this.answer || {};
    this.saidReason = answer.reason || "daily_limit";
    this._say("blocked", {
      reason: this.saidReason,
      nextResetAt: answer.next_reset_at || null,
      availableAgainAt: answer.available_again_at || (this.saidReason !== "window" && answer.next_reset_at) || null,
      offline: this.phase === "offline",
      profileId: this._decider(),
    });
  }

  /** Whose time ends the playback. */
  _decider() {
    const id = (this.answer || {}).decided_by;
    return this._isWith(id) ? id : this.profileId;
  }

  /** The moment itself: stop first, ask then. */
  _stop() {
    this.phase = "stopping";
    this.permitted = false;
    this.told = true;
    this.answer = Object.assign({}, this.answer, { enforcement: "blocked" });
    const decider = othersIn(this.answer).find((told) => told.profile_id === this._decider());
    (decider || this.answer).remaining_seconds = 0;
    this._sayBlocked({});
    this._beatNow();
  }

  _planCheck() {
    const now = this.clock.mono;
    const answer = this.answer || {};
    const reset = this.offset === null ? NaN : millis(answer.available_again_at || answer.next_reset_at) - this.offset;
    // The stream tells of our profile only.
    this.checkAt = now + CHECK_MS * (this.streamOpen && this._decider() === this.profileId ? 5 : 1) * (0.8 + 0.4 * this.random());
    if (reset > now) this.checkAt = Math.min(this.checkAt, reset + 200);
  }

  _check(cause) {
    if (this.checkCall) {
      this.checkAgain = cause;
      return;
    }
    this.checkCause = cause;
    this.checkAt = Infinity;
    const query = this.title ? "?title_id=" + encodeURIComponent(this.title) : "";
    this.checkCall = this._request("eligible", "GET", "playback-eligible/" + encodeURIComponent(this._decider()) + query);
  }

  _answer_eligible(call, status, body, retryAfter) {
    this.checkCall = 0;
    if (this.phase !== "blocked") return;
    const isEnough = !isNumber(body.remaining_seconds) || body.remaining_seconds * 1000 > SPARE_MS;
    if (status === 200 && body.eligible === true && (isEnough || body.reason === "educational_exempt")) {
      const isWaiting = this.clock.mono - this.blockedAt < RESUME_MS && !this.hidden && this.wish === "play";
      const resumes = this.autoResume && isWaiting && this.checkCause !== "day_reset";
      this.phase = "idle";
      this.warned = Infinity;
      if (!resumes && this.wish === "play") this.wish = "pause";
      this._say("unblocked", { resumes });
      if (resumes) this._start();
      else this._request("balance", "GET", "balance/" + this.profileId);
    } else if (this.checkAgain) this._check(this.checkAgain);
    else {
      this._planCheck();
      if (busy(status)) this.checkAt = Math.min(this.checkAt, this.clock.mono + this._pause(retryAfter));
    }
    this.checkAgain = null;
  }

  _answer_balance(call, status, body) {
    if (status !== 200 || !body.enforcement) return;
    this._sample(call, body);
    this._remember(body);
    this._say("update");
  }

  // --- ends of sessions

  _end(isClosing) {
    if (this.session) this._queueEnd(this.session.id, this.session.watched, isClosing);
    this.session = null;
    this.beatAgain = false;
    for (const id of Object.keys(this.partners)) this._part(id, isClosing);
  }

  _queueEnd(id, watched, keepalive) {
    const end = { id, watched, tries: 0, at: this.clock.mono, call: 0 };
    this.ends.push(end);
    this._do("saveEnd", { id, watched });
    this._sendEnd(end, keepalive);
  }

  _sendEnd(end, keepalive) {
    const body = { watched_seconds: seconds(end.watched) };
    end.call = this._request("end", "POST", "session/" + end.id + "/end", body, keepalive);
    this.calls[end.call].end = end;
  }

  _answer_end(call, status, body, retryAfter) {
    const end = call.end;
    end.call = 0;
    end.tries += 1;
    if (busy(status)) {
      end.at = this.clock.mono + this._pause(retryAfter) * Math.min(end.tries, 30);
    } else {
      this.ends.splice(this.ends.indexOf(end), 1);
      this._do("forgetEnd", { id: end.id });
    }
  }

  // --- events of the stream

  _on_stream(event) {
    const isBack = event.open && !this.streamOpen;
    this.streamOpen = event.open;
    if (isBack && this.phase === "blocked") this._check("stream");
  }

  _on_message(event) {
    const data = event.data || {};
    if (event.name === "session_superseded") {
      if (this.session && data.session_id === this.session.id) {
        this._superseded((data.by && data.by.device_type) || null, data.at || null);
      }
      return;
    }
    const isBalance = isNumber(data.used_seconds);
    if (this.phase === "blocked") {
      if (isBalance) this._remember(data);
      if (event.name !== "blocked") this._check(event.name);
    } else if (this.session) {
      // A beat that causes an event must not be caused by it for ever.
      if (!isBalance || this._isNews(data) || this.clock.mono - this.eventBeatAt > EVENT_BEAT_MS) {
        this.eventBeatAt = this.clock.mono;
        this._beatNow();
      }
    } else if (isBalance) {
      this._remember(data);
      this._say("update");
    }
  }

  _isNews(balance) {
    const known = this.answer.remaining_seconds;
    const remaining = balance.remaining_seconds;
    if (!isNumber(remaining) || !isNumber(known)) return isNumber(remaining) !== isNumber(known);
    const passed = (this.clock.mono - this.answeredAt) / 1000;
    return remaining > known + 2 || remaining < known - passed - 2;
  }

  _stream(wanted) {
    if (this.streaming === wanted) return;
    this.streaming = wanted;
    this._do("stream", { open: wanted });
  }

  // --- offline

  _goOffline() {
    const budget = this._offlineBudget();
    if (budget <= 0) {
      this._reach(false);
      if (this.phase === "offline") this.wish = "pause";
      return;
    }
    this.phase = "offline";
    this.permitted = true;
    this.connected = false;
    this.leaseUntil = Infinity;
    this.budgetLeft = budget;
    this.probeAt = this.clock.mono + PROBE_MS * (1 + this.random());
    this._say("offline", { mayPlay: true, remainingSeconds: isFinite(budget) ? seconds(budget) : null });
    this._beginStretch();
  }

  /** Milliseconds that may be played without the service. */
  _offlineBudget() {
    if (this.offlinePolicy === "always") return Infinity;
    const contact = this.contact;
    if (this.offlinePolicy === "never" || !contact) return 0;
    let left = contact.remaining;
    if (left === null || contact.reason === "window") left = Infinity;
    else if (contact.resetAt && this._serverNow() >= contact.resetAt) left = contact.limit || 0;
    return Math.min(left - contact.spent, this._toClosing());
  }

  /** Milliseconds until playback closes by the clock. Only an answer tells when it opens again. */
  _toClosing() {
    const contact = this.contact || {};
    const closesAt = contact.closesAt || (contact.reason === "window" ? contact.at + contact.remaining : Infinity);
    return closesAt - this._serverNow();
  }

  _beginStretch() {
    if (this.stretch || this.wish !== "play") return;
    const at = this._serverNow();
    this.stretch = { id: this.newId(), titleId: this.title, from: at, to: at, watched: 0, savedAt: this.clock.mono };
    if (this.phase === "offline") this.budgetLeft = this._offlineBudget();
    this.stopAt = this.clock.mono + this.budgetLeft;
  }

  _saveStretch(isOpen) {
    const stretch = this.stretch;
    stretch.to = Math.max(stretch.from + Math.ceil(stretch.watched), this._serverNow());
    stretch.savedAt = this.clock.mono;
    if (stretch.watched < 1) return;
    this.pending = true;
    this._do("saveStretch", {
      stretch: {
        id: stretch.id, isOpen, savedAt: this.clock.wall, lastServerTime: this.contact ? this.contact.at : stretch.from,
        interval: {
          title_id: stretch.titleId,
          started_at: new Date(stretch.from).toISOString(),
          ended_at: new Date(stretch.to).toISOString(),
          watched_seconds: seconds(stretch.watched),
        },
      },
      contact: this.contact,
    });
  }

  _closeStretch() {
    if (!this.stretch) return;
    this._saveStretch(false);
    this.stretch = null;
    this.stopAt = this.phase === "offline" ? Infinity : this.stopAt;
  }

  _probe() {
    if (this.probeCall) return;
    this.probeAt = Infinity;
    this.probeCall = this._request("probe", "GET", "playback-eligible/" + this.profileId);
  }

  _answer_probe(call, status) {
    this.probeCall = 0;
    if (this.phase !== "offline") return;
    if (status === 0) {
      this.probeAt = this.clock.mono + PROBE_MS * (1 + this.random());
      return;
    }
    this._closeStretch();
    this.probeAt = Infinity;
    if (this.wish === "play") this._start(); // the media runs on until its answer
    else this._leave(false);
  }

  _sync() {
    if (this.syncing) return;
    this.syncing = true;
    this.syncAt = Infinity;
    this._do("takeBatch", { id: this.newId() });
  }

  _on_batch(event) {
    if (!event.batch) return this._synced();
    this.batch = event.batch;
    const intervals = event.batch.intervals;
    return this._request("sync", "POST", "offline-sync", {
      profile_id: this.profileId,
      device_id: this.deviceId,
      batch_id: event.batch.id,
      device_now: new Date(this._serverNow()).toISOString(),
      last_server_time: new Date(event.batch.lastServerTime).toISOString(),
      intervals,
    });
  }

  _answer_sync(call, status, body, retryAfter) {
    this.syncing = false;
    if (busy(status)) {
      this.syncTries += 1;
      this.failures += 1;
      if (status === 0) this.silent += 1;
      this._reach(false);
      this.syncAt = this.clock.mono + this._pause(retryAfter);
      if (this.phase === "opening" && this.silent >= 2) {
        this.syncAt = Infinity; // the next opening syncs
        this._goOffline();
      } else if (this.syncTries >= SYNC_TRIES) {
        this.syncAt = this.clock.mono + CHECK_MS;
        if (this._mayBeat() && this.phase === "opening") this._beat(); // whatever is counted twice, the service counts once
      }
      return;
    }
    if (status !== 200) this._error(status, body, false);
    else if (body.balance) {
      this._remember(body.balance);
      if (this.session) this._beatNow();
    }
    this._do("forgetBatch", { id: call.body.batch_id });
    this._sync();
  }

  _synced() {
    this.syncing = this.pending = false;
    this.syncAt = Infinity;
    if (this.phase === "opening" && !this.beatCall) this._beat();
  }

  // --- clocks

  _advance(now) {
    const before = this.clock || now;
    this.clock = now;
    const passed = Math.max(0, now.mono - before.mono);
    const step = now.wall - before.wall - passed;
    let played = passed;
    if (passed > 5 * TICK_MS) {
      const moved = (now.position - before.position) * 1000;
      if (isNumber(moved)) played = Math.min(passed, Math.max(0, moved));
      else if (passed > SLEEP_MS) played = 0;
    }
    if (this._counts()) {
      if (this.session) {
        this.session.watched += played;
        for (const id of Object.keys(this.partners)) this.partners[id].watched += played;
      } else if (this.stretch) {
        this.stretch.watched += played;
        this.budgetLeft -= played;
        if (this.phase === "offline" && this.offlinePolicy !== "always") this.budgetLeft = Math.min(this.budgetLeft, this._toClosing());
        this.stopAt = now.mono + this.budgetLeft;
        if (this.contact) this.contact.spent += played;
      }
    }
    if (Math.abs(step) > CLOCK_STEP_MS || passed > SLEEP_MS) {
      // It slept, or somebody set the clock: what was known of the server's clock may be wrong.
      if (step > CLOCK_STEP_MS) {
        this.offsetError = Infinity;
        this.offset = null;
        this.leaseUntil -= step;
        for (const id of Object.keys(this.calls)) this.calls[id].sentAt = -Infinity; // their answers tell no time
      }
      if (this.session) this._beatNow();
    }
  }

  _counts() {
    return this.running && !this.buffering && !this.frozen && (!!this.session || !!this.stretch);
  }

  /** Learn the server's clock: half of the round trip is the error. */
  _sample(call, body) {
    const now = this.clock.mono;
    const remaining = body.remaining_seconds;
    let at = millis(body.server_time);
    // Before the reset the time ends when all that remains is used: that tells the server's clock as well.
    if (!(at > 0) && remaining > 0 && millis(body.stop_at) < millis(body.next_reset_at)) at = millis(body.stop_at) - remaining * 1000;
    if (!(at > 0)) return;
    const error = (now - call.sentAt) / 2;
    this.offsetError += (now - (this.sampledAt || now)) / 5000;
    this.sampledAt = now;
    if (error >= this.offsetError) return;
    this.offsetError = error;
    this.offset = at - (now + call.sentAt) / 2;
  }

  _serverNow() {
    if (this.offset !== null) return this.clock.mono + this.offset;
    return this.clock.wall + (this.contact ? this.contact.skew : 0);
  }

  _stopInstant(body, now) {
    const at = millis(body.stop_at);
    if (!(at > 0)) return Infinity;
    if (this.offset !== null) return at - this.offset;
    return isNumber(body.remaining_seconds) ? now + body.remaining_seconds * 1000 : Infinity;
  }

  // --- small things

  _remember(body) {
    const kept = this.answer || {};
    this.answer = Object.assign({}, kept, isAnswer(body) ? { decided_by: null, borrowed_seconds: 0 } : null, body);
    this.answeredAt = this.clock.mono;
    this.contact = {
      at: this._serverNow(),
      skew: this._serverNow() - this.clock.wall,
      remaining: this._left(body),
      reason: body.reason,
      closesAt: millis(body.closes_at) || null,
      resetAt: millis(body.next_reset_at) || null,
      limit: isNumber(body.limit_minutes) ? body.limit_minutes * 60000 : (this.contact || {}).limit,
      spent: 0,
    };
    this._do("saveContact", { contact: this.contact });
  }

  _warn(body) {
    if (body.enforcement.indexOf("warning") !== 0) {
      this.warned = Infinity;
      return;
    }
    const minutes = +body.enforcement.slice(8) || 0;
    if (minutes >= this.warned) return;
    this.warned = minutes;
    this._say("warning", { minutes: minutes || null, remainingSeconds: seconds(this._left(body)), reason: body.reason || null, profileId: this._decider() });
  }

  _reach(connected) {
    if (this.connected === connected) return;
    this.connected = connected;
    if (!connected) this._say("offline", { mayPlay: this.permitted, remainingSeconds: this.state().remainingSeconds });
  }

  _deadlines() {
    const now = this.clock.mono;
    if (this.phase === "playing" && this.wish === "play" && now >= this.stopAt) this._stop();
    if (this.permitted && this.running && now >= this.leaseUntil) {
      this.permitted = false; // no answer for too long; the next one goes on
      this._beatNow();
      this._say("update");
    }
    if (this._mayBeat() && now >= this.beatAt) this._beat();
    if (this.phase === "blocked" && now >= this.checkAt) this._check("time");
    if (this.stretch && now - this.stretch.savedAt >= CHECKPOINT_MS) this._saveStretch(true);
    if (this.phase === "offline") {
      if (this.stretch && now >= this.stopAt) {
        const { next_reset_at } = this.answer || {};
        this._sayBlocked(this._toClosing() <= 0 ? { reason: "window", next_reset_at } : {});
        this._closeStretch();
        this.permitted = false;
        this.wish = "pause";
      }
      if (now >= this.probeAt) this._probe();
    }
    if (now >= this.syncAt) this._sync();
    for (const end of this.ends) if (!end.call && now >= end.at) this._sendEnd(end, false);
  }

  _reconcile() {
    const should = this.wish === "play" && this.permitted;
    if (should === this.running) return;
    this.running = should;
    this._do("command", { name: should ? "play" : "pause" });
  }

  _request(kind, method, path, body, keepalive) {
    const id = ++this.callCount;
    this.calls[id] = { kind, body: body || {}, sentAt: this.clock.mono };
    this._do("request", { id, kind, method, path: "/api/v1/viewing-time/" + path, body, keepalive: !!keepalive });
    return id;
  }

  _error(status, body, fatal) {
    this._say("error", { code: body.code || "http_" + status, status, detail: body.detail || null, fatal });
  }

  _say(name, detail) {
    this._do("emit", { name, detail: detail || this.state() });
  }

  _do(type, effect) {
    this.effects.push(Object.assign({ type }, effect));
  }
}

/* ---------------------------------------------------------------- what stands around the machine */

const WORKER = "onmessage=e=>{const[i,m]=e.data;setTimeout(()=>postMessage(i),m)}";

/** One timer at a time, in a worker where there is one: browsers slow down the timers of hidden pages. */
class Alarm {
  constructor(ring) {
    this.ring = ring;
    this.number = 0;
    try {
      const address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
      this.worker = new Worker(address);
      this.worker.onmessage = (message) => message.data === this.number && this._rang();
      this.worker.onerror = () => {
        this.worker = null; // a policy without `worker-src blob:`
        this.set(this.ms);
      };
    } catch (_) {
      this.worker = null;
    }
  }

  set(ms) {
    clearTimeout(this.timer);
    this.number += 1;
    this.ms = Math.min(Math.max(5, ms), 60000);
    if (this.worker) this.worker.postMessage([this.number, this.ms]);
    else this.timer = setTimeout(() => this._rang(), this.ms);
  }

  _rang() {
    this.number += 1;
    this.ring();
  }

  stop() {
    clearTimeout(this.timer);
    this.number += 1;
    if (this.worker) this.worker.terminate();
    this.ring = () => {};
  }
}

/** Key and value in memory, for devices without IndexedDB and for tests. */
export class MemoryStorage {
  constructor() {
    this.entries = new Map();
  }

  /** Read, change and write all entries at once. */
  async change(edit) {
    return edit(this.entries);
  }
}

/** The same in IndexedDB: one transaction for each change, so that tabs do not tear each other's. */
class DatabaseStorage {
  constructor(prefix) {
    this.prefix = prefix;
  }

  _open() {
    return new Promise((resolve, reject) => {
      const opening = indexedDB.open("hourglass", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("entries");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = opening.onblocked = () => reject(opening.error);
    });
  }

  /** One entry, without a look at the others: the page may be going. `undefined` takes it away. */
  async put(key, value) {
    if (!this.database) this.database = await this._open();
    const transaction = this.database.transaction("entries", "readwrite");
    const store = transaction.objectStore("entries");
    if (value === undefined) store.delete(this.prefix + key);
    else store.put(value, this.prefix + key);
    if (transaction.commit) transaction.commit();
    return done(transaction);
  }

  async change(edit) {
    if (!this.database) this.database = await this._open();
    const transaction = this.database.transaction("entries", "readwrite");
    const store = transaction.objectStore("entries");
    const range = IDBKeyRange.bound(this.prefix, this.prefix + "\uffff");
    const keys = store.getAllKeys(range);
    const values = store.getAll(range);
    let result;
    values.onsuccess = () => {
      const entries = new Map(keys.result.map((key, i) => [key.slice(this.prefix.length), values.result[i]]));
      const before = new Map(entries);
      result = edit(entries);
      for (const [key, value] of entries) if (before.get(key) !== value) store.put(value, this.prefix + key);
      for (const key of before.keys()) if (!entries.has(key)) store.delete(this.prefix + key);
    };
    return done(transaction).then(() => result);
  }
}

function done(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** What outlives the page, in terms of the machine. Whatever cannot be stored is kept in memory. */
class Store {
  constructor(storage) {
    this.storage = storage;
    this.queue = Promise.resolve();
  }

  _change(edit, action = (storage) => storage.change(edit)) {
    const changed = this.queue.then(() => limited(action(this.storage), 2000)).catch(() => {
      // Full, missing or broken: what happens from now on is remembered until the page goes.
      if (!(this.storage instanceof MemoryStorage)) this.storage = new MemoryStorage();
      return this.storage.change(edit);
    });
    this.queue = changed.catch(() => {});
    return changed;
  }

  load() {
    return this._change((entries) => {
      const keys = Array.from(entries.keys());
      return {
        contact: entries.get("contact") || null,
        pending: entries.has("batch") || keys.some((key) => key.indexOf("stretch/") === 0),
        ends: keys.filter((key) => key.indexOf("end/") === 0).map((key) => entries.get(key)),
      };
    });
  }

  /** `undefined` takes the entry away. */
  put(key, value) {
    const edit = (entries) => void (value === undefined ? entries.delete(key) : entries.set(key, value));
    return this._change(edit, (storage) => (storage.put ? storage.put(key, value) : storage.change(edit)));
  }

  /** The batch that awaits its answer, or a new one of all stretches that are over. */
  takeBatch(id, now) {
    return this._change((entries) => {
      const waiting = entries.get("batch");
      if (waiting) return waiting;
      const batch = { id, lastServerTime: Infinity, intervals: [] };
      for (const [key, stretch] of Array.from(entries)) {
        if (key.indexOf("stretch/") !== 0 || batch.intervals.length === 500) continue;
        if (stretch.isOpen && now - stretch.savedAt < 60000 && now >= stretch.savedAt) continue; // another tab plays it
        batch.intervals.push(stretch.interval);
        batch.lastServerTime = Math.min(batch.lastServerTime, stretch.lastServerTime);
        entries.delete(key);
      }
      if (!batch.intervals.length) return null;
      entries.set("batch", batch);
      return batch;
    });
  }

  forgetBatch(id) {
    return this._change((entries) => {
      if ((entries.get("batch") || {}).id === id) entries.delete("batch");
    });
  }
}

function limited(promise, ms) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("timeout")), ms);
    promise.then(resolve, reject).then(() => clearTimeout(timer));
  });
}

function retryAfterOf(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return isNumber(wait) ? Math.min(120, Math.max(0.1, wait)) : undefined;
}

function newId() {
  if (typeof crypto === "object" && crypto.randomUUID) return crypto.randomUUID();
  return "xxxxxxxxxxxx4xxxyxxxxxxxxxxxxxxx".replace(/x|y/g, () => ((Math.random() * 16) | 0).toString(16));
}

/** One player of one profile on one device. None of its methods throws. */
export class HourglassPlayer {
  constructor(options) {
    this.options = options;
    this.url = String(options.url || "").replace(/\/+$/, "");
    this.listeners = {};
    this.media = null;
    this.cleanups = [];
    this.token = null;
    this.fetch = options.fetch || ((...args) => fetch(...args));
    const hasDatabase = typeof indexedDB === "object" && indexedDB;
    const prefix = options.profileId + "/";
    this.store = new Store(options.storage || (hasDatabase ? new DatabaseStorage(prefix) : new MemoryStorage()));
    this.machine = new PlaybackMachine(Object.assign({ newId }, options));
    this.queue = [];
    this.alarm = new Alarm(() => this._dispatch({ type: "tick" }));
    this._watchPage();
    limited(this.store.load(), 1500).catch(() => ({})).then((stored) => this._dispatch(Object.assign({ type: "stored" }, stored)));
    this._checkVersion();
  }

  /** Follow a media element: what the child does with it, and what it must do. */
  attach(video, details) {
    this._safely(() => {
      this.detach();
      const listen = (name, react) => {
        const safe = () => this._safely(react);
        video.addEventListener(name, safe);
        this.detachments.push(() => video.removeEventListener(name, safe));
      };
      this.detachments = [];
      this.media = {
        // A promise that is rejected: the browser wants a gesture first.
        play: () => Promise.resolve(video.play()).catch(() => video.paused && this._refusedToPlay()),
        pause: () => {
          if (video.paused) return;
          this.isHolding = true; // the event that follows is ours
          video.pause();
        },
        position: () => video.currentTime,
        remaining: (details && details.remaining) || (() => (video.duration - video.currentTime) / (video.playbackRate || 1)),
      };
      listen("play", () => this._dispatch({ type: "play", isRunning: true }));
      listen("pause", () => (this.isHolding ? (this.isHolding = false) : !video.ended && this._dispatch({ type: "pause" })));
      listen("waiting", () => this._dispatch({ type: "buffering", on: true }));
      listen("playing", () => this._dispatch({ type: "buffering", on: false }));
      listen("ended", () => this.end());
      if (details && details.titleId) this.title(details.titleId);
      if (!video.paused) this._dispatch({ type: "play", isRunning: true });
    });
    return this;
  }

  /** Command a player of another kind: `{play(), pause(), position()?, remaining()?}`. */
  control(media) {
    this.detach();
    this.media = media;
    return this;
  }

  detach() {
    for (const undo of this.detachments || []) undo();
    this.detachments = [];
    this.media = null;
  }

  play(titleId) {
    this._dispatch({ type: "play", titleId });
  }

  pause() {
    this._dispatch({ type: "pause" });
  }

  title(titleId) {
    this._dispatch({ type: "title", titleId });
  }

  end() {
    this._dispatch({ type: "end" });
  }

  /** Name the other profiles that watch this playback from now on, four at most. */
  watchWith(profileIds) {
    this._dispatch({ type: "together", profileIds });
  }

  /** Open the event stream and ask for the balance, without playing. */
  listen() {
    this._dispatch({ type: "refresh" });
  }

  get state() {
    return this.machine.state(this._clock());
  }

  on(name, listener) {
    (this.listeners[name] = this.listeners[name] || []).push(listener);
    return () => (this.listeners[name] = this.listeners[name].filter((other) => other !== listener));
  }

  /** Ask the parents for minutes. Answers the request; null if it could not be made. */
  async ask(minutes, note) {
    const path = "/api/v1/parental-controls/profiles/" + this.options.profileId + "/requests";
    const key = newId();
    for (let tries = 0; tries < 3; tries++) {
      const answer = await this._call("POST", path, { minutes, note: note || null }, { key });
      if (answer.status === 201) return answer.body;
      if (!busy(answer.status) || answer.status === 429) {
        this._emit("error", { code: (answer.body || {}).code || "http_" + answer.status, status: answer.status, detail: null, fatal: false });
        return null;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    return null;
  }

  /** What was asked for, newest first; null without an answer. */
  async requests() {
    const path = "/api/v1/parental-controls/profiles/" + this.options.profileId + "/requests";
    const answer = await this._call("GET", path);
    return answer.status === 200 ? answer.body.requests : null;
  }

  /** Whether a title may be started now: the service's answer, with `eligible` and `reason`; null without one. */
  async eligible(titleId) {
    const path = "/api/v1/viewing-time/playback-eligible/" + this.options.profileId;
    const answer = await this._call("GET", path + "?title_id=" + encodeURIComponent(titleId));
    return answer.status === 200 ? answer.body : null;
  }

  /** End the session and let go of everything. */
  destroy() {
    this._dispatch({ type: "close" });
    this.isDestroyed = true;
    this._stream(false);
    this.detach();
    this.alarm.stop();
    for (const undo of this.cleanups) undo();
  }

  // --- the machine and the world

  _clock() {
    const mono = typeof performance === "object" ? performance.now() : Date.now();
    const told = (name) => (this.media && this.media[name] ? this.media[name]() : undefined);
    return { mono, wall: Date.now(), position: told("position"), remaining: told("remaining") };
  }

  _dispatch(event) {
    this.queue.push(event);
    if (this.isBusy) return;
    this.isBusy = true;
    this._safely(() => {
      while (this.queue.length) {
        for (const effect of this.machine.handle(this.queue.shift(), this._clock())) this["_do_" + effect.type](effect);
      }
      if (!this.isDestroyed) this.alarm.set(this.machine.wakeAt - this._clock().mono);
    });
    this.isBusy = false;
  }

  /** A fault of our own is told, and the film goes on. */
  _safely(action) {
    if (this.hasFailed) return;
    try {
      action();
    } catch (error) {
      this.hasFailed = true;
      this.alarm.stop();
      this._emit("error", { code: "internal", status: 0, detail: String(error), fatal: true });
      if (this.machine.wish === "play" && this.media) {
        try {
          this.media.play();
        } catch (_) {
          // nothing is left to do
        }
      }
    }
  }

  _do_emit(effect) {
    this._emit(effect.name, effect.detail);
  }

  _emit(name, detail) {
    for (const listener of this.listeners[name] || []) {
      try {
        listener(detail);
      } catch (error) {
        console.error(error);
      }
    }
  }

  _do_command(effect) {
    this._emit(effect.name, {});
    if (!this.media) return;
    this.media[effect.name]();
  }

  _refusedToPlay() {
    this._emit("error", { code: "gesture_needed", status: 0, detail: "The browser wants a gesture first.", fatal: false });
    this._dispatch({ type: "pause" });
  }

  _do_stream(effect) {
    this._stream(effect.open);
  }

  _do_saveContact(effect) {
    this.store.put("contact", effect.contact);
  }

  _do_saveStretch(effect) {
    this.store.put("stretch/" + effect.stretch.id, effect.stretch);
    this.store.put("contact", effect.contact);
  }

  _do_saveEnd(effect) {
    this.store.put("end/" + effect.id, { id: effect.id, watched: effect.watched });
  }

  _do_forgetEnd(effect) {
    this.store.put("end/" + effect.id);
  }

  _do_takeBatch(effect) {
    const answer = (batch) => this._dispatch({ type: "batch", batch });
    this.store.takeBatch(effect.id, Date.now()).then(answer, () => answer(null));
  }

  _do_forgetBatch(effect) {
    this.store.forgetBatch(effect.id);
  }

  _do_request(effect) {
    this._call(effect.method, effect.path, effect.body, { keepalive: effect.keepalive }).then((answer) =>
      this._dispatch(Object.assign({ type: "answer", id: effect.id }, answer)));
  }

  /** A call with a token; never rejects. Status 0: no answer, or one that makes no sense. */
  async _call(method, path, body, more) {
    try {
      let token = await this._token(null);
      let answer = await this._send(method, path, body, token, more || {});
      if (answer.status === 401) {
        token = await this._token(token);
        answer = await this._send(method, path, body, token, more || {});
      }
      return answer;
    } catch (_) {
      return { status: 0, body: null };
    }
  }

  /** The token; a new one if `refused` is the one that is known. All who wait share one refresh. */
  _token(refused) {
    if (this.token !== null && this.token !== refused) return Promise.resolve(this.token);
    if (!this.refreshing) {
      const forget = () => (this.refreshing = null);
      const asking = Promise.resolve().then(() => this.options.token({ refused }));
      this.refreshing = limited(asking, TIMEOUT_MS).then((token) => (this.token = token));
      this.refreshing.then(forget, forget);
    }
    return this.refreshing;
  }

  async _send(method, path, body, token, more) {
    const headers = {};
    if (token) headers.Authorization = "Bearer " + token;
    if (body) headers["Content-Type"] = "application/json";
    if (more.key) headers["Idempotency-Key"] = more.key;
    const aborter = typeof AbortController === "function" ? new AbortController() : {};
    const options = { method, headers, keepalive: !!more.keepalive, signal: aborter.signal, cache: "no-store" };
    if (body) options.body = JSON.stringify(body);
    const answering = this.fetch(this.url + path, options).then(async (response) => {
      const text = await response.text();
      let parsed = null;
      try {
        parsed = JSON.parse(text);
      } catch (_) {
        if (response.ok) return { status: 0, body: null };
      }
      return { status: response.status, body: parsed, retryAfter: retryAfterOf(response) };
    });
    try {
      return await limited(answering, TIMEOUT_MS);
    } catch (error) {
      if (aborter.abort) aborter.abort();
      throw error;
    }
  }

  async _checkVersion() {
    if (this.options.versionCheck === false) return;
    try {
      const answer = await this._send("GET", "/sdk/v1/version.json", undefined, "", {});
      const number = (text) => String(text).split(".").reduce((sum, part) => sum * 1000 + Number(part), 0);
      if (answer.status === 200 && number(VERSION) < number(answer.body.minimum)) {
        this._emit("error", { code: "sdk_outdated", status: 0, detail: answer.body.message || null, fatal: false });
      }
    } catch (_) {
      // it is only a courtesy
    }
  }

  // --- the page

  _watchPage() {
    if (typeof document !== "object" || typeof window !== "object" || !window.addEventListener) return;
    const listen = (target, name, react) => {
      target.addEventListener(name, react);
      this.cleanups.push(() => target.removeEventListener(name, react));
    };
    listen(document, "visibilitychange", () => this._dispatch({ type: "visibility", hidden: document.hidden }));
    listen(document, "freeze", () => this._dispatch({ type: "freeze" }));
    listen(document, "resume", () => this._dispatch({ type: "wake" }));
    listen(window, "pagehide", () => this._dispatch({ type: "close" }));
    listen(window, "pageshow", (event) => event.persisted && this._dispatch({ type: "wake" }));
    listen(window, "online", () => this._dispatch({ type: "network", online: true }));
  }

  // --- the event stream

  _stream(open) {
    this.isStreaming = open;
    if (open) this._readStream();
    else if (this.streamAborter) this.streamAborter.abort();
  }

  async _readStream() {
    if (this.isReading || typeof AbortController !== "function") return;
    this.isReading = true;
    let failures = 0;
    while (this.isStreaming) {
      let wait;
      try {
        wait = await this._readOnce(() => (failures = 0));
      } catch (_) {
        wait = undefined;
      }
      this._dispatch({ type: "stream", open: false });
      if (wait === Infinity) break; // there is no such stream for us
      failures += 1;
      // Where there are too many streams, most players do without: heartbeats tell the same, only later.
      const longest = wait === undefined ? 30 : 300;
      const pause = Math.max(wait || 0, Math.min(longest, Math.pow(2, failures - 1)) * (0.5 + Math.random()));
      if (this.isStreaming) await new Promise((resolve) => setTimeout(resolve, pause * 1000));
    }
    this.isReading = false;
  }

  /** Read until the stream ends; seconds to wait at least before the next where it was refused, else undefined. */
  async _readOnce(onOpen) {
    const aborter = (this.streamAborter = new AbortController());
    const token = await this._token(null);
    const headers = { Authorization: "Bearer " + token, Accept: "text/event-stream" };
    if (this.lastEventId) headers["Last-Event-ID"] = this.lastEventId;
    const path = "/api/v1/viewing-time/events/" + this.options.profileId;
    const fetching = this.fetch(this.url + path, { headers, signal: aborter.signal, cache: "no-store" });
    const response = await limited(fetching, TIMEOUT_MS);
    if (response.status === 401) {
      await this._token(token);
      return undefined;
    }
    if (response.status !== 200 || !response.body || !response.body.getReader) {
      aborter.abort();
      if (response.status === 200) return typeof EventSource === "function" ? this._readNative(onOpen) : Infinity;
      return response.status === 403 ? Infinity : retryAfterOf(response) || 0;
    }
    onOpen();
    this._dispatch({ type: "stream", open: true });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    let fields = {};
    try {
      for (;;) {
        const { done, value } = await limited(reader.read(), STREAM_SILENCE_MS);
        if (done) return undefined;
        text += decoder.decode(value, { stream: true });
        const lines = text.split(/\r?\n/);
        text = lines.pop();
        for (const line of lines) {
          if (line === "") {
            this._received(fields);
            fields = {};
          } else if (line[0] !== ":") {
            const [, name, content] = /^([^:]*):? ?(.*)$/.exec(line);
            fields[name] = name === "data" && fields.data !== undefined ? fields.data + "\n" + content : content;
          }
        }
        if (text.length > 65536) return undefined;
      }
    } finally {
      aborter.abort();
    }
  }

  /** The same where fetch has no streams: the browser's own, opened with a ticket in place of a token. */
  async _readNative(onOpen) {
    const body = { profile_id: this.options.profileId };
    const answer = await this._call("POST", "/api/v1/viewing-time/events-ticket", body);
    if (answer.status !== 200 && answer.status !== 201) return busy(answer.status) ? answer.retryAfter || 0 : Infinity;
    const query = "?ticket=" + encodeURIComponent(answer.body.ticket);
    const source = new EventSource(this.url + "/api/v1/viewing-time/events/" + this.options.profileId + query);
    return new Promise((resolve) => {
      this.streamAborter = { abort: () => source.onerror() };
      source.onerror = () => {
        source.close(); // a ticket opens one stream only
        resolve(undefined);
      };
      source.onopen = () => {
        onOpen();
        this._dispatch({ type: "stream", open: true });
      };
      for (const event of EVENTS) {
        source.addEventListener(event, (message) => this._received({ event, data: message.data, id: message.lastEventId }));
      }
    });
  }

  _received(fields) {
    if (fields.id) this.lastEventId = fields.id;
    if (fields.data === undefined) return;
    let data = null;
    try {
      data = JSON.parse(fields.data);
    } catch (_) {
      // an event of a kind that we do not know
    }
    const name = fields.event || "message";
    this._dispatch({ type: "message", name, data });
    this._emit("message", { name, data });
  }
}
