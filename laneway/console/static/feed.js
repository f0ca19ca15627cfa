// Shows the events of a feed as they come: section[data-feed="/events?…"]. The newest one stands first. After a broken
// connection, or a pause, it goes on after the last event that it has got.
"use strict";
(() => {
  const feed = document.querySelector("[data-feed]");
  if (!feed) return;
  const $ = (selector) => feed.querySelector(selector);
  const MOST = 500; // rows, and events that wait to be shown
  const SILENCE = 30_000; // the server sends something every 10 seconds
  const LONGEST_WAIT = 15_000;
  const body = $("[data-feed-rows]"), state = $("[data-feed-state]"), pause = $("[data-feed-pause]"), empty = $("[data-feed-empty]");
  let last = null, waiting = [], shown = 0, paused = false, controller = null, failures = 0, timer = null;

  function tell(text) { if (state.textContent !== text) state.textContent = text; }

  function cell(row, content, kind = "") {
    const made = row.insertCell();
    if (kind) made.className = kind;
    made.append(content);
    return made;
  }

  function badge(kind) {
    const made = document.createElement("span");
    made.className = `badge ${{ begin: "processing", end: "completed", lost: "lost", bury: "failed" }[kind] ?? ""}`;
    made.textContent = kind;
    return made;
  }

  function link(address, text) {
    const made = document.createElement("a");
    made.href = address;
    made.textContent = text;
    return made;
  }

  function detail(event) {
    const known = Object.entries(event.data ?? {}).filter(([name, value]) => value !== null && !(name === "queue" && value === event.queue));
    const parts = known.map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
    if (event.attempt) parts.unshift(`attempt ${event.attempt}`);
    if (event.tags?.length) parts.push(`tags ${event.tags.join(", ")}`);
    const text = parts.join(" · ");
    return text.length > 300 ? `${text.slice(0, 299)}…` : text;
  }

  function rowOf(event) {
    const row = document.createElement("tr");
    if (event.kind === "gone") {
      row.className = "gone";
      cell(row, new Date(event.at).toISOString().slice(11, 23), "whole");
      const text = cell(row, "Some events were deleted before they were shown here, by retention or by hand.", "text");
      text.colSpan = 5;
      return row;
    }
    row.dataset.row = "";
    const time = document.createElement("time");
    time.dateTime = event.at;
    time.title = event.at;
    time.textContent = new Date(event.at).toISOString().slice(11, 23);
    cell(row, time, "whole");
    cell(row, badge(event.kind));
    const task = link(`/console/tasks/${encodeURIComponent(event.task_id)}`, event.task_id);
    task.className = "mono";
    const named = cell(row, task, "cut");
    named.title = event.task_id;
    cell(row, event.name ?? "", "cut");
    cell(row, event.queue ?? "", "whole");
    cell(row, detail(event), "text");
    return row;
  }

  // Rows come in bundles, so that a flood of events costs one layout four times a second.
  function show() {
    timer = null;
    if (!waiting.length) return;
    const focused = body.contains(document.activeElement);
    const rows = waiting.map(rowOf).reverse();
    shown += waiting.length;
    waiting = [];
    body.prepend(...rows);
    while (body.rows.length > MOST) {
      if (focused && body.rows[body.rows.length - 1].contains(document.activeElement)) body.rows[0].querySelector("a")?.focus();
      body.deleteRow(-1);
    }
    empty.hidden = true;
    $("[data-feed-count]").textContent = `${shown} ${shown === 1 ? "event" : "events"}${shown > MOST ? `, of which the newest ${MOST} are shown` : ""}`;
  }

  function take(text) {
    let id = null, data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (id !== null) last = id;
    if (!data) return;
    const event = JSON.parse(data);
    if (event.kind === "position") return;
    waiting.push(event);
    if (waiting.length > MOST) { shown += waiting.length - MOST; waiting.splice(0, waiting.length - MOST); }
    timer ??= setTimeout(show, 250);
  }

  async function read(answer, heard) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      parts.forEach(take);
    }
  }

  async function connect() {
    controller = new AbortController();
    const own = controller;
    let watch = null;
    const heard = () => { clearTimeout(watch); watch = setTimeout(() => own.abort(), SILENCE); };
    let wait = 1000;
    try {
      heard();
      const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
      const answer = await fetch(feed.dataset.feed, { headers, signal: own.signal });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) {
        const problem = await answer.json().catch(() => ({}));
        if (answer.status < 500 && answer.status !== 429) { tell(problem.detail ?? `The server answered ${answer.status}.`); return; }
        throw new Error(problem.detail ?? `The server answered ${answer.status}.`);
      }
      failures = 0;
      tell("connected");
      await read(answer, heard);
    } catch (error) {
      if (paused) return;
      wait = Math.min(LONGEST_WAIT, 1000 * 2 ** failures++);
      tell(`not connected: ${error.name === "AbortError" ? "the server is silent" : error.name === "TypeError" ? "the server does not answer" : error.message} It is tried again; nothing is missed.`.replace(/([a-z]) It is/, "$1. It is"));
    } finally { clearTimeout(watch); }
    if (!paused && own === controller) setTimeout(() => { if (!paused && own === controller) connect(); }, wait);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) { tell("paused: events that come meanwhile are shown when it goes on"); controller?.abort(); controller = null; } else connect();
  });
  $("[data-feed-clear]").addEventListener("click", () => { waiting = []; body.replaceChildren(); });
  window.addEventListener("online", () => { if (!paused) { controller?.abort(); connect(); } });
  connect();
})();
