/* The child's page. What may play, and for how long, is the SDK's matter; this file shows it. */
const facts = JSON.parse(document.body.dataset.facts);
const { HourglassPlayer } = await import(facts.sdk);
const { texts, language } = facts;
const at = (id) => document.getElementById(id);
const say = (text, values = {}) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
const video = at("film");
const SCREENS = ["who", "shelf", "stage", "lock", "elsewhere"];
const SOON_SECONDS = 300;
const ASK_AGAIN_MS = 5000;
const GOOD_NEWS_MS = 10000;
const LONGEST_BREAK_MS = 7200000;

let profile = null;
let title = null;
let player = null;
let scene = null;
let request = null; // what was asked for and not answered yet
let isConnected = true;
let gotMoreAt = 0;
let isFinishing = false;

/* ---------- the household's token, for the SDK */

async function token() {
  const answer = await fetch("/play/token", { cache: "no-store" });
  if (answer.status === 401) location.assign("/sign-in?next=/play");
  if (!answer.ok) throw new Error("no token");
  return (await answer.json()).token;
}

function deviceId() {
  let id = null;
  try {
    id = localStorage.getItem("hourglass-device");
    if (!id) localStorage.setItem("hourglass-device", (id = `browser-${crypto.randomUUID()}`));
  } catch (_) {
    // without storage it is another device each time
  }
  return id || `browser-${Math.random().toString(36).slice(2)}`;
}

/* ---------- screens */

function show(name) {
  for (const each of SCREENS) at(each).hidden = each !== name;
  document.body.dataset.screen = name;
  at(`${name === "stage" ? "film" : name}-title`).focus({ preventScroll: true });
  scrollTo(0, 0);
  draw();
}

const isShown = (name) => !at(name).hidden;

function duration(seconds) {
  const minutes = Math.ceil(seconds / 60);
  const h = Math.floor(minutes / 60);
  const m = minutes % 60;
  if (minutes <= 1) return texts.lastMinute;
  if (h === 0) return say(texts.minutes, { m });
  return m === 0 ? say(texts.hours, { h }) : say(texts.hoursMinutes, { h, m });
}

/** What the lock page says of an instant; of the end of a break on the same day its time alone. */
function moment(instant, isBreak) {
  if (!instant) return isBreak ? texts.breakNoMoment : texts.doneNoMoment;
  const zone = { timeZone: profile.timezone };
  const day = (date) => new Intl.DateTimeFormat("en-CA", zone).format(date);
  const then = new Date(instant);
  const time = new Intl.DateTimeFormat(language, { ...zone, hour: "2-digit", minute: "2-digit", hour12: false }).format(then);
  if (isBreak && then - Date.now() < LONGEST_BREAK_MS) return say(texts.breakText, { time });
  const tomorrow = new Date(Date.now() + 86400000);
  let when = say(texts.on, { time, day: new Intl.DateTimeFormat(language, { ...zone, weekday: "long" }).format(then) });
  if (day(then) === day(new Date())) when = say(texts.today, { time });
  else if (day(then) === day(tomorrow)) when = say(texts.tomorrow, { time });
  return say(texts.doneText, { moment: when });
}

/* ---------- what the SDK says */

function follow() {
  player.on("update", (state) => {
    if (state.connected && !isConnected) toast(texts.online);
    isConnected = state.connected;
    if (state.borrowedSeconds > 0 && !isFinishing && isShown("stage")) toast(texts.finishing);
    isFinishing = state.borrowedSeconds > 0;
    draw();
  });
  player.on("warning", ({ remainingSeconds, reason }) => {
    if (Date.now() - gotMoreAt < GOOD_NEWS_MS) return; // fifteen minutes more are good news, not a warning
    const minutes = Math.ceil(remainingSeconds / 60);
    const [warning, soon] = reason === "break" ? [texts.warningBreak, texts.warningBreakSoon] : [texts.warning, texts.warningSoon];
    toast(minutes > 1 ? say(warning, { minutes }) : soon);
  });
  player.on("blocked", ({ reason, availableAgainAt }) => {
    at("lock-title").textContent = say(texts.reasons[reason] || texts.done, { name: profile.name });
    at("lock-text").textContent = moment(availableAgainAt, reason === "break");
    at("ask").hidden = reason === "parent_pause" || reason === "break"; // more time would end neither
    offerLearning();
    if (!isShown("lock")) {
      newIdeas();
      show("lock");
    }
  });
  player.on("unblocked", ({ resumes }) => {
    gotMoreAt = Date.now();
    if (!isShown("lock")) return;
    answered("");
    show("stage");
    toast(resumes ? texts.more : `${texts.more} ${texts.gesture}`);
  });
  player.on("superseded", ({ deviceType }) => {
    const device = texts.devices[deviceType] || texts.devices.web;
    at("elsewhere-title").textContent = say(texts.superseded, { device });
    show("elsewhere");
  });
  player.on("offline", ({ mayPlay }) => {
    isConnected = false;
    toast(mayPlay ? texts.offline : texts.offlineStop);
  });
  player.on("error", ({ code, fatal }) => {
    if (code === "gesture_needed") toast(texts.gesture);
    else if (fatal) {
      show("shelf");
      at("shelf-left").textContent = texts.refused;
    }
  });
  player.on("message", ({ name, data }) => {
    if (name === "request_answered" && data && data.status === "denied") answered(texts.denied);
    if (name === "day_reset" && isShown("lock")) answered("");
    if (name === "viewing_time_updated" && isShown("lock")) offerLearning(); // parents may have changed what is exempt
  });
}

function toast(text) {
  at("toast-text").textContent = text;
  at("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (at("toast").hidden = true), 15000);
}

/** The ring, the sign and the button, as of now. */
function draw() {
  const state = player ? player.state : null;
  const isLearning = !!state && state.isMeasuring && state.isEducational && !state.stopAt;
  at("measure").dataset.on = state && state.isMeasuring ? "1" : "0";
  const sign = state && state.isMeasuring ? (isLearning ? texts.learningNow : texts.measuring) : texts.notMeasuring;
  if (at("measure-text").textContent !== sign) at("measure-text").textContent = sign;
  document.body.dataset.phase = state ? state.phase : "none";
  const plays = !video.paused;
  at("toggle-text").textContent = plays ? texts.pause : texts.play;
  at("toggle-icon").setAttribute("d", plays ? "M7 5h4v14H7zM13 5h4v14h-4z" : "M8 5v14l11-7z");
  if (!state || state.usedSeconds === null) return;
  const remaining = state.remainingSeconds;
  const ring = at("ring");
  const text = remaining === null ? texts.noLimit : duration(remaining);
  at("ring-time").textContent = remaining === null ? "∞" : text;
  at("ring-label").textContent = remaining === null ? texts.noLimit : state.reason === "break" ? texts.leftBreak : texts.leftLabel;
  ring.setAttribute("aria-label", remaining === null ? texts.noLimit : say(texts.left, { time: text }));
  ring.dataset.soon = remaining !== null && remaining <= SOON_SECONDS ? "1" : "0";
  ring.dataset.empty = remaining === 0 ? "1" : "0";
  const share = remaining === null ? 100 : (100 * remaining) / Math.max(1, remaining + state.usedSeconds);
  at("ring-rest").style.strokeDasharray = `${share} 100`;
  if (state.phase !== "refused") at("shelf-left").textContent = remaining === null ? texts.noLimit : say(texts.left, { time: text });
}

/** Offer learning films on the lock page where watching them uses no time. */
async function offerLearning() {
  const film = facts.titles.find((each) => each.isLearning);
  const asked = (offerLearning.asked = Symbol("asked"));
  const answer = film && (await player.eligible(film.id));
  if (offerLearning.asked === asked) at("learning").hidden = !answer || answer.reason !== "educational_exempt";
}

/* ---------- asking for time */

function newIdeas() {
  const list = texts.ideaList.slice();
  at("ideas").replaceChildren(
    ...[0, 1, 2].map(() => {
      const item = document.createElement("li");
      [item.textContent] = list.splice(Math.floor(Math.random() * list.length), 1);
      return item;
    }),
  );
}

function answered(text) {
  request = null;
  at("ask-answer").textContent = text;
  at("ask-open").hidden = false;
  at("ask-choices").hidden = true;
}

async function askFor(minutes) {
  const buttons = at("ask-choices").querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  let code = "";
  const forget = player.on("error", (error) => (code = error.code));
  const asked = await player.ask(minutes);
  forget();
  for (const button of buttons) button.disabled = false;
  if (!asked) {
    answered(code === "too_many_requests" ? texts.askedEnough : texts.askAgain);
    return;
  }
  request = asked;
  at("ask-choices").hidden = true;
  at("ask-open").hidden = true;
  at("ask-answer").textContent = say(texts.asked, { minutes });
  at("lock-title").focus({ preventScroll: true });
}

/** The stream tells the answer; where it cannot, this finds out. */
async function lookForAnswer() {
  if (!request || document.hidden) return;
  const waiting = request;
  const list = await player.requests();
  const found = list && list.find((each) => each.request_id === waiting.request_id);
  if (request === waiting && found && found.status === "denied") answered(texts.denied);
}

/* ---------- films: made here, so that no file is needed */

function seeded(text) {
  let state = 2166136261;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  return () => {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9;
    return ((state ^ (state >>> 13)) >>> 0) / 4294967296;
  };
}

/** A function that paints a title's picture at a time (seconds). */
function painter(film) {
  const random = seeded(film.id);
  const hue = Math.floor(random() * 360);
  const stars = Array.from({ length: 26 }, () => [random(), random() * 0.55, 0.6 + random() * 1.6]);
  const hills = [0, 1, 2].map((n) => ({ height: 0.58 + n * 0.12, size: 0.05 + random() * 0.08, speed: 0.03 + n * 0.05, phase: random() * 6 }));
  const isNight = random() < 0.5;
  return (context, width, height, time) => {
    const sky = context.createLinearGradient(0, 0, 0, height);
    sky.addColorStop(0, isNight ? `hsl(${hue} 45% 22%)` : `hsl(${hue} 70% 78%)`);
    sky.addColorStop(1, isNight ? `hsl(${(hue + 50) % 360} 45% 44%)` : `hsl(${(hue + 40) % 360} 80% 90%)`);
    context.fillStyle = sky;
    context.fillRect(0, 0, width, height);
    context.fillStyle = isNight ? "#fff4d6" : "#ffffffcc";
    for (const [x, y, size] of stars) {
      const twinkle = isNight ? 0.6 + 0.4 * Math.sin(time * 2 + x * 40) : 1;
      context.beginPath();
      const left = isNight ? x * width : ((x + time * 0.01 * size) % 1.1) * width;
      context.arc(left, y * height, size * twinkle * (isNight ? 1.6 : 7) * (width / 640), 0, 7);
      context.fill();
    }
    context.fillStyle = isNight ? "#ffe9b0" : "#fff3b8";
    context.beginPath();
    context.arc(width * 0.78, height * (0.24 + 0.02 * Math.sin(time / 3)), height * 0.11, 0, 7);
    context.fill();
    hills.forEach((hill, n) => {
      context.fillStyle = `hsl(${(hue + 130 + n * 14) % 360} ${isNight ? 28 : 42}% ${(isNight ? 34 : 62) - n * 9}%)`;
      context.beginPath();
      context.moveTo(0, height);
      for (let x = 0; x <= width; x += width / 64) {
        const wave = Math.sin((x / width) * 5 + hill.phase + time * hill.speed * 6) + 0.5 * Math.sin((x / width) * 11 + hill.phase);
        context.lineTo(x, height * (hill.height + hill.size * wave));
      }
      context.lineTo(width, height);
      context.fill();
    });
    const x = ((time * 0.06 + 0.2) % 1.2) * width - width * 0.1;
    const y = height * (0.6 - 0.05 * Math.abs(Math.sin(time * 2.4)));
    const size = height * 0.09;
    context.fillStyle = `hsl(${(hue + 200) % 360} 75% ${isNight ? 70 : 55}%)`;
    context.beginPath();
    context.ellipse(x, y, size, size * 0.9, 0, 0, 7);
    context.fill();
    context.fillStyle = "#fff";
    for (const side of [-0.35, 0.35]) {
      context.beginPath();
      context.arc(x + side * size, y - size * 0.15, size * 0.24, 0, 7);
      context.fill();
    }
    context.fillStyle = "#1d2733";
    for (const side of [-0.3, 0.4]) {
      context.beginPath();
      context.arc(x + side * size, y - size * 0.15, size * 0.11, 0, 7);
      context.fill();
    }
    if (film.isLearning) {
      context.fillStyle = isNight ? "#fff4d6" : "#1d2733";
      context.font = `700 ${height * 0.14}px system-ui, sans-serif`;
      context.textAlign = "center";
      const count = 1 + Math.floor(time / 2) % 9;
      context.fillText(`${count} + ${count} = ${2 * count}`, width * 0.4, height * 0.3);
    }
  };
}

/** A film of a title, into the video element: a canvas that is painted while the film runs, as long as the title is. */
function makeFilm(film) {
  if (scene) scene.stop();
  const canvas = document.createElement("canvas");
  canvas.width = 960;
  canvas.height = 540;
  const context = canvas.getContext("2d");
  const paint = painter(film);
  const lengthMs = film.durationSeconds ? film.durationSeconds * 1000 : Infinity;
  let frame = 0;
  let played = 0;
  let last = performance.now();
  // It is painted while it is paused, too: the element has a frame at once when it goes on.
  const next = () => {
    const now = performance.now();
    if (!video.paused) played += now - last;
    last = now;
    paint(context, canvas.width, canvas.height, (video.paused ? frame : frame++) / 20);
    if (played >= lengthMs && !video.paused) leave();
  };
  next();
  const timer = setInterval(next, 50);
  const stream = canvas.captureStream(20);
  video.srcObject = stream;
  scene = {
    remaining: () => (isFinite(lengthMs) ? Math.max(0, lengthMs - played) / 1000 : undefined),
    stop: () => (clearInterval(timer), stream.getTracks().forEach((track) => track.stop())),
  };
}

/* ---------- choosing */

function choosePerson(person) {
  profile = person;
  at("learning").hidden = true;
  title = null;
  request = null;
  if (player) player.destroy();
  player = new HourglassPlayer({ url: "", token, profileId: person.id, deviceId: deviceId(), deviceType: "web", tellRemaining: true });
  window.hourglass = player;
  follow();
  player.listen();
  at("shelf-title").textContent = say(texts.what, { name: person.name });
  at("shelf-left").textContent = "";
  answered("");
  show("shelf");
}

function chooseTitle(film) {
  title = film;
  at("film-title").textContent = film.name;
  at("next").hidden = facts.titles.length < 2;
  at("toast").hidden = true;
  player.detach();
  makeFilm(film);
  player.attach(video, { titleId: film.id, remaining: scene.remaining });
  show("stage");
  play();
}

function play() {
  video.play().catch((error) => error.name === "NotAllowedError" && toast(texts.gesture));
}

/** Another film in the running session. */
function nextFilm() {
  const index = facts.titles.findIndex((each) => each.id === title.id);
  title = facts.titles[(index + 1) % facts.titles.length];
  at("film-title").textContent = title.name;
  const wasPlaying = !video.paused;
  player.detach();
  makeFilm(title);
  player.attach(video, { titleId: title.id, remaining: scene.remaining });
  if (wasPlaying) play();
}

function leave() {
  player.end();
  player.detach();
  video.pause();
  show("shelf");
}

function build() {
  at("nobody").hidden = facts.profiles.length > 0;
  facts.profiles.forEach((person, index) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "person";
    const face = document.createElement("span");
    face.className = `person__face tint-${index % 6}`;
    face.setAttribute("aria-hidden", "true");
    [face.textContent] = [...person.name.trim()].map((letter) => letter.toLocaleUpperCase(language));
    button.append(face, person.name);
    button.addEventListener("click", () => choosePerson(person));
    item.append(button);
    at("people").append(item);
  });
  at("empty-shelf").hidden = facts.titles.length > 0;
  for (const film of facts.titles) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.title = film.id;
    const picture = document.createElement("canvas");
    picture.width = 480;
    picture.height = 270;
    painter(film)(picture.getContext("2d"), 480, 270, 5 + seeded(`${film.id}.`)() * 8);
    const name = document.createElement("span");
    name.textContent = film.name;
    button.append(picture, name);
    if (film.isLearning) {
      const badge = document.createElement("small");
      badge.textContent = texts.learning;
      button.append(badge);
    }
    button.addEventListener("click", () => chooseTitle(film));
    item.append(button);
    at("titles").append(item);
  }
  for (const button of at("ask-choices").querySelectorAll("button")) {
    button.textContent = duration(Number(button.dataset.minutes) * 60);
    button.addEventListener("click", () => askFor(Number(button.dataset.minutes)));
  }
  at("ask-open").addEventListener("click", () => {
    at("ask-open").hidden = true;
    at("ask-choices").hidden = false;
    at("ask-answer").textContent = "";
    at("ask-choices").querySelector("button").focus();
  });
  at("toggle").addEventListener("click", () => (video.paused ? play() : video.pause()));
  video.addEventListener("click", () => at("toggle").click());
  for (const name of ["play", "pause", "playing"]) video.addEventListener(name, () => setTimeout(draw)); // after the SDK
  at("next").addEventListener("click", nextFilm);
  at("back").addEventListener("click", leave);
  at("elsewhere-back").addEventListener("click", leave);
  at("here").addEventListener("click", () => {
    show("stage");
    play();
  });
  at("learning").addEventListener("click", leave);
  for (const id of ["switch", "lock-switch"]) {
    at(id).addEventListener("click", () => {
      if (player) player.end();
      video.pause();
      show("who");
    });
  }
  at("toast-close").addEventListener("click", () => (at("toast").hidden = true));
  setInterval(draw, 1000);
  setInterval(lookForAnswer, ASK_AGAIN_MS);
}

build();
draw();
