// What the pages do in the browser: relative times, keys, calls of the API, dialogs. The pages work by links without it.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const csrf = $('meta[name="csrf-token"]').content;

  // --- times

  function duration(seconds, most = 2) {
    if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
    const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const parts = [];
    let rest = Math.round(seconds);
    for (const [size, unit] of units) {
      if (rest >= size && parts.length < most) { parts.push(`${Math.floor(rest / size)} ${unit}`); rest %= size; }
      else if (parts.length) break;
    }
    return parts.join(" ");
  }

  function tellTimes(root = document) {
    const now = Date.now();
    for (const time of $$("time[data-ago], time[data-since]", root)) {
      const seconds = (now - Date.parse(time.dateTime)) / 1000;
      let text = duration(Math.abs(seconds), "ago" in time.dataset ? 1 : 2);
      if ("ago" in time.dataset) text = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${text} ago` : `in ${text}`;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // --- notices

  // `undo`: what a button in the notice does; such a notice stays until it is closed.
  function tell(text, kind = "good", undo = null) {
    const toast = document.createElement("div");
    toast.className = `toast ${kind}`;
    toast.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "plain";
    close.textContent = "×";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => toast.remove());
    if (undo) {
      const back = document.createElement("button");
      back.type = "button";
      back.className = "small";
      back.textContent = "Undo";
      back.addEventListener("click", () => { toast.remove(); undo(); });
      toast.append(back);
    }
    toast.append(close);
    $("#toasts").append(toast);
    if (kind === "good" && !undo) setTimeout(() => toast.remove(), 6000);
  }

  function tellAfterReload(text) {
    try { sessionStorage.setItem("laneway-told", text); } catch { /* storage may be switched off */ }
  }

  function tellTold() {
    try {
      const text = sessionStorage.getItem("laneway-told");
      sessionStorage.removeItem("laneway-told");
      if (text) tell(text);
    } catch { /* storage may be switched off */ }
  }

  function ask(title, text, yes = "Yes") {
    const dialog = $("#confirm");
    $("#confirm-title").textContent = title;
    $("#confirm-text").textContent = text;
    $("#confirm-yes").textContent = yes;
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  // --- calls of the API

  function problemText(problem, status) {
    const fields = (problem.errors ?? []).map((each) => `${each.field ?? (each.loc ?? []).join(".")}: ${each.problem ?? ""}`);
    return [problem.detail ?? problem.title ?? `The server answered ${status}.`, ...fields].join(" ");
  }

  async function call(request, body) {
    const [method, path] = request.split(" ", 2);
    const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      throw new Error("The server does not answer. It may have been done. Look before you repeat it.");
    }
    if (answer.status === 401) { location.reload(); throw new Error("You are not logged in any more."); }
    const found = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(problemText(found, answer.status)), { problem: found });
    return found;
  }

  async function callOf(button) {
    const { call: request, body, ask: question, done, to } = button.dataset;
    if (question && !(await ask(button.textContent.trim(), question, button.textContent.trim()))) return;
    button.disabled = true;
    try {
      const found = await call(request, body ? JSON.parse(body) : undefined);
      const text = done ?? "Done.";
      if (to) { tellAfterReload(text); location.assign(to.replace(/\{(\w+)\}/, (_, name) => encodeURIComponent(found[name] ?? ""))); }
      else { tell(text); refresh(); }
    } catch (error) { tell(error.message, "bad"); } finally { button.disabled = false; }
  }

  async function refresh() {
    const live = $("#live");
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (!answer?.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    htmx.swap({ text: $("#live", page).innerHTML, target: live, swap: "innerMorph", sourceElement: live });
  }

  // A form that asks first what it would do: data-bulk is the call; the answer of a dry run has `matched`.
  async function bulk(form, body) {
    const { bulk: request, undo, verb, past, noun, most, plural = `${noun}s` } = form.dataset;
    try {
      const trial = await call(request, { ...body, dry_run: true });
      if (!trial.matched) return tell(`Nothing matches: there is no ${noun} to ${verb}.`, "bad");
      const total = trial.total ?? trial.matched;
      const number = total === 1 ? `1 ${noun}` : `${total}${trial.total === null && trial.more ? " or more" : ""} ${plural}`;
      if (!(await ask(`${verb[0].toUpperCase()}${verb.slice(1)} ${number}?`, `For example ${trial.samples.slice(0, 3).join(", ")}.`, verb))) return;
      const found = await inParts(request, { ...body, ...(most ? { most: Number(most) } : {}) }, past);
      const refused = Object.keys(found.refused ?? {}).length;
      const text = `${found.done} of ${found.matched} ${found.matched === 1 ? noun : plural} ${past}.${found.more || found.next ? " More match: repeat it." : ""}${refused ? ` ${refused} were refused: ${Object.values(found.refused)[0]}` : ""}`;
      tell(text, refused ? "bad" : "good", found.action ? () => takeBackAction(found.action) : undo && found.ids?.length ? () => takeBack(undo, found.ids) : null);
      refresh();
    } catch (error) { tell(error.message, "bad"); }
  }

  // Repeat the call for what is left, and show how far it is. The parts of one action are undone together.
  async function inParts(request, body, past) {
    const most = 10000, whole = { done: 0, matched: 0, refused: {}, ids: [] };
    let looked = 0, shown = null, part = null;
    do {
      const more = part ? { before: part.next, ...(whole.action ? { action: whole.action } : {}) } : {};
      part = await call(request, { ...body, ...more });
      whole.done += part.done;
      whole.matched = part.ids ? whole.matched + part.matched : Math.max(whole.matched, part.matched);
      whole.action ??= part.action;
      whole.ids.push(...(part.ids ?? []));
      Object.assign(whole.refused, part.refused);
      looked += part.done + Object.keys(part.refused ?? {}).length;
      shown?.remove();
      if (part.next != null) shown = tellProgress(`${whole.done} ${past} so far…`);
    } while (part.next != null && looked < most);
    return { ...whole, next: part.next, more: part.more };
  }

  function tellProgress(text) {
    const toast = document.createElement("div");
    toast.className = "toast good";
    toast.textContent = text;
    $("#toasts").append(toast);
    return toast;
  }

  async function takeBackAction(action) {
    let done = 0, refused = 0, part;
    try {
      do {
        part = await call(`POST /bulk-actions/${encodeURIComponent(action)}/undo`);
        done += part.done;
        refused += Object.keys(part.refused).length;
      } while (part.more);
      tell(`Undone for ${done}.${refused ? ` ${refused} have gone on since.` : ""}`, refused ? "bad" : "good");
      refresh();
    } catch (error) { tell(error.message, "bad"); }
  }

  async function takeBack(request, ids) {
    try {
      let done = 0;
      for (let start = 0; start < ids.length; start += 1000) done += (await call(request, { ids: ids.slice(start, start + 1000) })).done;
      tell(`Taken back for ${done} of ${ids.length}.`);
      refresh();
    } catch (error) { tell(error.message, "bad"); }
  }

  function fields(form) {
    const given = {};
    for (const element of form.elements) {
      if (!element.name || element.value === "") continue;
      given[element.name] = element.type === "number" ? Number(element.value) : element.value;
    }
    return given;
  }

  function openLimit(button) {
    const dialog = $("#limit"), form = $("form", dialog), limits = JSON.parse(button.dataset.body);
    $("#limit-title").textContent = `Limits of the queue ${button.dataset.limit}`;
    for (const name of ["rate", "per_seconds", "max_in_flight"]) form.elements[name].value = limits[name] ?? "";
    form.dataset.queue = button.dataset.limit;
    form.dataset.paused = limits.paused;
    dialog.showModal();
  }

  async function setLimit(form) {
    const { queue, paused } = form.dataset;
    try {
      await call(`PUT /queues/${encodeURIComponent(queue)}/limits`, { ...fields(form), paused: paused === "true" });
      form.closest("dialog").close();
      tell(`The limits of the queue ${queue} are set.`);
      refresh();
    } catch (error) { tell(error.message, "bad"); }
  }

  async function replay(form) {
    let payload;
    try { payload = JSON.parse(form.elements.payload.value); } catch (error) { return tell(`The payload is no JSON: ${error.message}`, "bad"); }
    try {
      const found = await call("POST /tasks", { name: form.dataset.task, payload });
      tellAfterReload("A new task was submitted.");
      location.assign(`/console/tasks/${encodeURIComponent(found.task_id)}`);
    } catch (error) { tell(error.message, "bad"); }
  }

  async function sendSignal(form) {
    const { signal, id, data } = form.elements;
    let given;
    try { given = JSON.parse(data.value || "{}"); } catch (error) { return tell(`The data is no JSON: ${error.message}`, "bad"); }
    try {
      const found = await call(`${form.dataset.signal}${encodeURIComponent(signal.value)}`, { data: given, ...(id.value && { id: id.value }) });
      form.closest("dialog").close();
      if (!found.created) tell(`The signal ${signal.value} was sent before. Give it an id to send it again.`, "bad");
      else tell(found.delivered ? `The signal ${signal.value} is delivered.` : `The signal ${signal.value} is kept until its step waits for it.`);
      refresh();
    } catch (error) { tell(error.message, "bad"); }
  }

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      tell("Copied.");
    } catch { tell("The browser does not let this page copy.", "bad"); }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.call) callOf(button);
    else if (button.dataset.copy !== undefined) copy(button);
    else if (button.dataset.limit) openLimit(button);
    else if (button.dataset.open) $(button.dataset.open).showModal();
    else if ("close" in button.dataset) button.closest("dialog").close();
    else if ("help" in button.dataset) $("#help").showModal();
    else if ("themeButton" in button.dataset) changeTheme();
    else if ("menu" in button.dataset) {
      const open = document.body.classList.toggle("menu-open");
      button.setAttribute("aria-expanded", String(open));
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if ("limitForm" in form.dataset) { event.preventDefault(); setLimit(form); }
    else if ("replay" in form.dataset) { event.preventDefault(); replay(form); }
    else if (form.dataset.signal) { event.preventDefault(); sendSignal(form); }
    else if (form.dataset.bulk) {
      event.preventDefault();
      bulk(form, { ...JSON.parse(form.dataset.body ?? "{}"), ...fields(form) });
    }
  });

  document.addEventListener("change", (event) => {
    if ("submitOnChange" in event.target.dataset) event.target.form.requestSubmit();
  });

  // --- a filter within what is shown, such as a payload

  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.dataset.find) findWithin($(field.dataset.find), field.value.trim().toLowerCase());
    if (field.id === "travel") $("#travel-at").value = travelText(Number(field.value));
  });

  function findWithin(root, text) {
    for (const item of $$("li", root)) item.hidden = text !== "" && !item.textContent.toLowerCase().includes(text);
    if (text) for (const details of $$("details", root)) details.open = true;
  }

  // --- looking back

  function travelText(minutes) {
    return minutes === 0 ? "now" : `${duration(-minutes * 60)} ago, ${new Date(Date.now() + minutes * 60000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  }

  $("#travel")?.addEventListener("change", (event) => {
    const minutes = Number(event.target.value), form = event.target.form;
    const address = new URL(location.href);
    address.searchParams.set("range", form.elements.range.value);
    if (minutes === 0) address.searchParams.delete("at");
    else address.searchParams.set("at", new Date(Date.now() + minutes * 60000).toISOString());
    location.assign(address);
  });

  // --- colours

  function changeTheme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("laneway-theme", root.dataset.theme); } catch { /* storage may be switched off */ }
    document.dispatchEvent(new Event("laneway:theme"));
  }

  // --- keys

  let afterG = 0;

  function moveRow(step) {
    const rows = $$("[data-row]").filter((row) => row.offsetParent !== null);
    if (!rows.length) return;
    const now = rows.indexOf(document.activeElement?.closest("[data-row]"));
    const next = rows[Math.min(rows.length - 1, Math.max(0, now + step))] ?? rows[0];
    ($("a", next) ?? next).focus();
    next.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.target.matches("input, textarea, select")) { if (event.key === "Escape") event.target.blur(); return; }
    if (afterG && Date.now() - afterG < 1500) {
      afterG = 0;
      const link = $(`.side a[data-letter="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); location.assign(link.href); }
      return;
    }
    const actions = {
      "/": () => $("#search").focus(),
      "?": () => $("#help").showModal(),
      g: () => { afterG = Date.now(); },
      j: () => moveRow(1),
      k: () => moveRow(-1),
      u: () => { const up = $("[data-up]"); if (up) location.assign(up.href); },
    };
    const action = actions[event.key];
    if (action) { event.preventDefault(); action(); }
  });

  // --- whether the page is up to date

  function connection(text) {
    const state = $("[data-connection]");
    state.hidden = !text;
    state.textContent = text ?? "";
  }

  const SILENCE = 20_000; // the server sends something every 8 seconds
  let heard = Date.now();

  function hear() {
    heard = Date.now();
    if (navigator.onLine) connection(null);
  }

  // A connection can break without an error, as when a machine sleeps: then nothing comes any more.
  function connectAgain() {
    const old = $("#live");
    heard = Date.now();
    if (!old.hasAttribute("hx-sse:connect")) return;
    const fresh = old.cloneNode(true);
    fresh.removeAttribute("data-htmx-powered");
    old.replaceWith(fresh);
    htmx.process(fresh);
  }

  document.addEventListener("htmx:sse:error", () => connection("not up to date: the server does not answer"));
  document.addEventListener("htmx:sse:after:message", () => { hear(); tellTimes(); });
  document.addEventListener("htmx:sse:after:connection", hear);
  document.addEventListener("htmx:after:swap", () => tellTimes());
  document.addEventListener("visibilitychange", () => { heard = Date.now(); });
  window.addEventListener("offline", () => connection("offline"));
  window.addEventListener("online", () => { connection(null); connectAgain(); });
  setInterval(() => { if (!document.hidden && Date.now() - heard > SILENCE) connectAgain(); }, 5000);
  globalThis.laneway = { call, tell, tellAfterReload, refresh, tellTimes };
  setInterval(tellTimes, 1000);
  tellTimes();
  tellTold();
})();
