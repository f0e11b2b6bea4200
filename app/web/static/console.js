// Makes pages of the console update by themselves. Everything also works without it.
"use strict";
(() => {
  const RETRY_MS = 3000;
  const RING = 1000; // length of the ring's path, as its markup says
  let stream = null;
  let retry = 0;

  const page = () => document.getElementById("page");

  // --- live fragments: one stream for each open page

  function connect() {
    const url = page()?.dataset.live;
    if (stream && stream.address === url && stream.source.readyState !== EventSource.CLOSED) return;
    disconnect();
    waiting.clear();
    if (!url || document.hidden) return;
    const source = new EventSource(url);
    stream = { address: url, source };
    source.addEventListener("open", () => showState(true));
    source.addEventListener("fragment", (event) => place(JSON.parse(event.data)));
    source.addEventListener("signed-out", () => {
      disconnect();
      location.reload();
    });
    source.addEventListener("error", () => {
      showState(false);
      if (source.readyState === EventSource.CLOSED) ask();
    });
  }

  function disconnect() {
    clearTimeout(retry);
    stream?.source.close();
    stream = null;
  }

  // The stream was refused: because nobody is signed in any more, or because something is away.
  async function ask() {
    disconnect();
    let status = 0;
    try {
      status = (await fetch("/session", { cache: "no-store" })).status;
    } catch {
      // no connection: try again
    }
    if (status === 401) location.reload();
    else retry = setTimeout(connect, RETRY_MS);
  }

  const waiting = new Map();

  function place({ id, html }) {
    const element = document.getElementById(id);
    if (!element) return;
    if (element.contains(document.activeElement)) {
      waiting.set(id, html); // a button in use stays under the finger
      return;
    }
    waiting.delete(id);
    element.innerHTML = html;
    window.htmx?.process(element);
    prepare(element);
  }

  document.addEventListener("focusout", () => {
    setTimeout(() => {
      for (const [id, html] of waiting) place({ id, html });
    });
  });

  function showState(isLive) {
    for (const element of document.querySelectorAll("[data-live-state]")) element.hidden = isLive;
  }

  // --- what remains, counted down between two messages

  function prepare(root) {
    const at = performance.now();
    for (const element of root.querySelectorAll("[data-remaining]")) element.since = at;
  }

  function tick() {
    for (const element of document.querySelectorAll("[data-ticking]")) {
      const left = Math.max(0, Number(element.dataset.remaining) - (performance.now() - element.since) / 1000);
      const allowance = Number(element.dataset.allowance);
      const text = element.querySelector("[data-left]");
      if (text) text.textContent = duration(left);
      const share = allowance ? Math.min(1, left / allowance) : 0;
      element.querySelector(".ring__left")?.setAttribute("stroke-dasharray", `${Math.round(share * RING)} ${RING}`);
    }
  }

  function duration(seconds) {
    const whole = Math.floor(seconds);
    if (whole > 0 && whole < 60) return `${whole} s`;
    const hours = Math.floor(whole / 3600);
    const minutes = Math.floor(whole / 60) % 60;
    const unit = document.documentElement.lang === "nb" ? "t" : "h";
    if (!hours) return `${minutes} min`;
    return minutes ? `${hours} ${unit} ${minutes} min` : `${hours} ${unit}`;
  }

  const clock = (minutes) => `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;

  // --- charts; the table beside each says the same

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const data = (element, name) => JSON.parse(element.dataset[name]);
  const MINUTES = 60;

  function draw(root) {
    if (!window.uPlot) return;
    for (const element of root.querySelectorAll("[data-chart]")) {
      element.textContent = "";
      const options = element.dataset.chart === "week" ? week(element) : preview(element);
      const chart = new uPlot({ ...base(element, options), ...options.uplot }, options.data, element);
      element.chart = chart;
    }
  }

  function base(element, { labels, highest = 0 }) {
    const axis = { stroke: token("--muted"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    return {
      width: element.clientWidth,
      height: element.clientWidth < 420 ? 180 : 220,
      legend: { show: false },
      cursor: { show: false },
      padding: [10, 8, 0, 0],
      scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: (_, __, max) => [0, Math.max(60, max * 1.1, highest * 1.1)] } },
      axes: [
        { ...axis, size: 28, gap: 4, space: 20, grid: { show: false }, values: (_, ticks) => ticks.map((at) => labels[at] ?? ""), incrs: [labels.length > 10 ? 7 : 1] },
        { ...axis, size: 40, gap: 4, grid: { stroke: token("--line"), width: 1 }, incrs: [30, 60, 120, 240], values: (_, ticks) => ticks.map(clock) },
      ],
    };
  }

  const bars = (size) => uPlot.paths.bars({ size: [size, 34], radius: 0.15 });

  // The limit of each day as a dashed line over its bar.
  function limitLines(limits) {
    return (plot) => {
      const context = plot.ctx;
      context.save();
      context.strokeStyle = token("--limit");
      context.lineWidth = 2 * devicePixelRatio;
      context.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      context.beginPath();
      limits.forEach((limit, at) => {
        if (limit === null) return;
        const y = Math.round(plot.valToPos(limit, "y", true));
        context.moveTo(plot.valToPos(at - 0.5, "x", true), y);
        context.lineTo(plot.valToPos(at + 0.5, "x", true), y);
      });
      context.stroke();
      context.restore();
    };
  }

  function week(element) {
    const labels = data(element, "labels");
    const counted = data(element, "counted").map((seconds) => seconds / MINUTES);
    const educational = data(element, "educational").map((seconds, at) => seconds / MINUTES + counted[at]);
    const overrun = data(element, "overrun").map((seconds, at) => seconds / MINUTES + educational[at]);
    const limits = data(element, "limits");
    const series = (name) => ({ fill: token(name), stroke: token(name), width: 0, paths: bars(0.6), points: { show: false } });
    return {
      labels,
      highest: Math.max(0, ...limits.filter((limit) => limit !== null)),
      data: [labels.map((_, at) => at), overrun, educational, counted],
      uplot: {
        series: [{}, series("--overrun"), series("--educational"), series("--counted")],
        hooks: { draw: [limitLines(limits)] },
      },
    };
  }

  function preview(element) {
    const days = data(element, "days");
    const watched = data(element, "watched");
    const blocked = data(element, "blocked");
    const format = new Intl.DateTimeFormat(document.documentElement.lang, { day: "numeric", month: "short", timeZone: "UTC" });
    const labels = days.map((day) => format.format(new Date(`${day}T00:00:00Z`)));
    const limits = data(element, "limits");
    const only = (wanted) => watched.map((minutes, at) => (blocked[at] === wanted ? minutes : null));
    const within = limits.map((limit, at) => (blocked[at] ? limit : null));
    const series = (name) => ({ fill: token(name), stroke: token(name), width: 0, paths: bars(0.7), points: { show: false } });
    return {
      labels,
      data: [days.map((_, at) => at), only(true), within, only(false)],
      uplot: { series: [{}, series("--overrun"), series("--counted"), series("--counted")] },
    };
  }

  // --- the week: windows are drawn from their fields, and drawing fills them in

  const DAY = 1440;
  const STEP = 15;
  const ROW = 24;
  const MAX_WINDOWS = 21;
  const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
  const rows = (week) => [...week.querySelectorAll("[data-window-rows] [data-window]")];
  const minutesOf = (text) => (/^\d\d:\d\d$/.test(text) ? Number(text.slice(0, 2)) * 60 + Number(text.slice(3)) : null);
  const clockOf = (minutes) => `${String(Math.floor(minutes / 60) % 24).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
  const fieldsOf = (row) => ({
    days: DAYS.map((day) => row.querySelector(`[name$="-${day}"]`)),
    from: row.querySelector('[name$="-from"]'),
    until: row.querySelector('[name$="-until"]'),
  });

  function bar(day, from, until, kind) {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const values = { class: kind, x: from, y: day * ROW + 2, width: until - from, height: ROW - 4 };
    for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
    return rect;
  }

  function drawWeek(week) {
    const bars = [];
    for (const row of rows(week)) {
      const fields = fieldsOf(row);
      const [from, until] = [minutesOf(fields.from.value), minutesOf(fields.until.value)];
      if (from === null || until === null) continue;
      fields.days.forEach((box, day) => {
        if (!box.checked) return;
        bars.push(bar(day, from, until > from ? until : DAY, "week__open"));
        if (until <= from && until > 0) bars.push(bar((day + 1) % 7, 0, until, "week__open"));
      });
    }
    week.querySelector("[data-week-bars]").replaceChildren(...bars);
  }

  const isEmpty = ({ days, from, until }) => !from.value && !until.value && !days.some((box) => box.checked);

  // An empty row if there is one, else a new one; none if there are as many as there may be.
  function freeRow(week) {
    const found = rows(week).find((row) => isEmpty(fieldsOf(row)));
    if (found) return found;
    const used = new Set(rows(week).map((row) => Number(row.dataset.window)));
    const number = [...Array(MAX_WINDOWS).keys()].find((each) => !used.has(each));
    if (number === undefined) return null;
    const list = week.querySelector("[data-window-rows]");
    list.insertAdjacentHTML("beforeend", week.querySelector("[data-window-template]").innerHTML.replaceAll("__n__", number));
    showRemovals(week);
    return list.lastElementChild;
  }

  function showRemovals(week) {
    for (const button of week.querySelectorAll("[data-remove]")) button.hidden = false;
  }

  function changed(week) {
    drawWeek(week);
    week.closest("form").dispatchEvent(new Event("change", { bubbles: true }));
  }

  // A day is added to a window with the same times.
  function openWindow(week, day, from, until) {
    const times = [clockOf(from), clockOf(until)];
    const same = rows(week).find((row) => times[0] === fieldsOf(row).from.value && times[1] === fieldsOf(row).until.value);
    const row = same ?? freeRow(week);
    if (!row) return;
    const fields = fieldsOf(row);
    [fields.from.value, fields.until.value] = times;
    fields.days[day].checked = true;
    changed(week);
  }

  function placeOf(grid, event) {
    const box = grid.getBoundingClientRect();
    const minutes = ((event.clientX - box.left) / box.width) * DAY;
    const day = Math.floor(((event.clientY - box.top) / box.height) * 7);
    return { day: Math.min(6, Math.max(0, day)), minutes: Math.min(DAY, Math.max(0, Math.round(minutes / STEP) * STEP)) };
  }

  function prepareWeek(week) {
    if (week.dataset.ready) return;
    week.dataset.ready = "1";
    const grid = week.querySelector("[data-week-grid]");
    const add = week.querySelector("[data-add-window]");
    add.hidden = week.querySelector("[data-week-hint]").hidden = false;
    showRemovals(week);
    add.addEventListener("click", () => freeRow(week)?.querySelector("input").focus());
    week.addEventListener("click", (event) => {
      const row = event.target.closest("[data-remove]")?.closest("[data-window]");
      if (!row) return;
      row.remove();
      changed(week);
      add.focus();
    });
    week.addEventListener("input", () => drawWeek(week));
    let drawn = null;
    grid.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      drawn = { ...placeOf(grid, event), rect: null };
      grid.setPointerCapture(event.pointerId);
    });
    const range = (event) => [drawn.minutes, placeOf(grid, event).minutes].sort((one, other) => one - other);
    grid.addEventListener("pointermove", (event) => {
      if (!drawn) return;
      drawn.rect?.remove();
      drawn.rect = grid.appendChild(bar(drawn.day, ...range(event), "week__new"));
    });
    grid.addEventListener("pointerup", (event) => {
      if (!drawn) return;
      const [from, until] = range(event);
      drawn.rect?.remove();
      if (until - from >= STEP) openWindow(week, drawn.day, from, until);
      drawn = null;
    });
    grid.addEventListener("pointercancel", () => {
      drawn?.rect?.remove();
      drawn = null;
    });
  }

  // --- forms

  // A form that is on its way is not sent again. Its key makes a repeat harmless, too.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) event.preventDefault();
    else if (!event.defaultPrevented) form.dataset.sent = "1";
  });

  function fillZones(root) {
    for (const field of root.querySelectorAll("[data-zone]")) {
      field.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
    }
  }

  // The key in a caregiver's link is sent once, as a form, and leaves the address.
  function openLink() {
    const form = document.querySelector("[data-open-link]");
    const key = location.hash.slice(1);
    if (!form || !key.includes(".")) return;
    history.replaceState(null, "", location.pathname);
    form.elements.token.value = key;
    form.requestSubmit();
  }

  // --- begin, and begin again after each swap

  // What the last form had to say, for those who hear the page: its own region came with it, too late to be noticed.
  function say() {
    const text = document.querySelector(".flash p, .banner--bad")?.textContent;
    const region = document.getElementById("said");
    if (text && region) region.textContent = text;
  }

  function begin(root) {
    prepare(root);
    draw(root);
    fillZones(root);
    for (const week of root.querySelectorAll("[data-week]")) prepareWeek(week);
    connect();
  }

  document.addEventListener("DOMContentLoaded", () => {
    begin(document);
    openLink();
  });
  window.addEventListener("hashchange", openLink);
  document.addEventListener("htmx:afterSettle", (event) => {
    const isPage = event.detail.target?.id === "page" || event.detail.elt?.id === "page";
    begin(isPage ? document : event.detail.elt);
    if (isPage) say();
    if (isPage && event.detail.pathInfo?.finalRequestPath && !document.activeElement?.id) {
      document.getElementById("main")?.focus({ preventScroll: true });
    }
  });
  document.addEventListener("htmx:pushedIntoHistory", () => window.scrollTo(0, 0));
  document.addEventListener("htmx:responseError", () => delete document.activeElement?.form?.dataset.sent);
  document.addEventListener("htmx:sendError", (event) => {
    if (event.detail.elt?.dataset) delete event.detail.elt.dataset.sent;
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // nothing of a page that was left is shown again
  });
  window.addEventListener("resize", () => {
    for (const element of document.querySelectorAll("[data-chart]")) {
      element.chart?.setSize({ width: element.clientWidth, height: element.chart.height });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(document));
  setInterval(tick, 1000);
})();
