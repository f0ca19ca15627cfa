// Forms that send JSON to the API: form[data-form="METHOD /path/{field}"]. A problem stands at its field.
// data-type of a field: number, json, list (commas between), moment; anything else is text. An empty field is left out.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const { call, tell, tellAfterReload, refresh } = globalThis.laneway;

  class FieldError extends Error {
    constructor(field, message) { super(message); this.fields = [{ field, problem: message }]; }
  }

  function valueOf(element) {
    const text = element.value.trim();
    if (element.type === "number" || element.dataset.type === "number") {
      if (element.validity?.badInput || !Number.isFinite(Number(text))) throw new FieldError(element.name, "It must be a number.");
      return Number(text);
    }
    if (element.dataset.type === "list") return text.split(",").map((each) => Number(each.trim()));
    if (element.dataset.type === "moment") return momentOf(element, text);
    if (element.dataset.type !== "json") return text;
    if (element.value.includes(element.dataset.hidden)) throw new FieldError(element.name, `Write the hidden values (${element.dataset.hidden}) anew: this page does not know them.`);
    try { return JSON.parse(text); } catch (error) { throw new FieldError(element.name, `It is no JSON: ${error.message}`); }
  }

  function momentOf(element, text) {
    const time = text.replace(" UTC", "").replace(" ", "T");
    return /(Z|[+-]\d\d:?\d\d)$/.test(time) ? time : `${time.length === 10 ? `${time}T00:00:00` : time}Z`;
  }

  // Path placeholders take a field out of the body.
  function requestOf(form, target) {
    const body = {};
    for (const element of form.elements) {
      if (!element.name || element.disabled || element.closest("[hidden]")) continue;
      if (element.type === "number" && element.validity.badInput) throw new FieldError(element.name, "It must be a number.");
      if (element.value.trim() !== "") body[element.name] = valueOf(element);
    }
    const path = target.replace(/\{(\w+)\}/g, (_, name) => { const value = body[name] ?? ""; delete body[name]; return encodeURIComponent(value); });
    return [path, body];
  }

  function problemPlace(form, name) {
    const element = name ? form.elements[name] : null;
    return element?.id ? [element, $(`#${element.id}-problem`)] : [null, null];
  }

  function clear(form) {
    for (const each of $$("[aria-invalid]", form)) each.removeAttribute("aria-invalid");
    for (const each of $$(".field-problem", form)) { each.textContent = ""; }
    const whole = $("[data-form-problem]", form);
    whole.hidden = true;
    whole.textContent = "";
  }

  // data-kinds of a form: kind of a problem → the field that has it.
  function ofKind(form, error) {
    const kinds = JSON.parse(form.dataset.kinds ?? "{}"), field = kinds[error.problem?.type?.split(":").pop()];
    return field ? [{ field, problem: error.problem.detail }] : [];
  }

  // `field`: of the answer, such as body.payload.hours; its first part that is a field of the form gets the problem.
  function show(form, error, { focus = true } = {}) {
    clear(form);
    const rest = [];
    let first = null;
    for (const { field, problem: text } of error.fields ?? error.problem?.errors ?? ofKind(form, error)) {
      const problem = text.replace(/^Value error, /, "");
      const parts = (field ?? "").split(".").filter((part) => part !== "body");
      const [element, place] = problemPlace(form, parts[0]);
      if (!place) { rest.push(problem); continue; }
      element.setAttribute("aria-invalid", "true");
      const hint = problem.startsWith("String should match pattern") && $(`#${element.id}-hint`);
      place.textContent = hint ? `Only: ${hint.textContent}` : parts.length > 1 ? `${parts.slice(1).join(".")}: ${problem}` : problem;
      first ??= element;
    }
    if (!first && !rest.length) rest.push(error.message);
    if (rest.length) {
      const whole = $("[data-form-problem]", form);
      whole.hidden = false;
      whole.textContent = rest.join(" ");
    }
    if (focus) first?.focus();
  }

  async function send(form) {
    const button = $("button.main", form);
    try {
      const [request, body] = requestOf(form, form.dataset.form);
      button.disabled = true;
      const found = await call(request, body);
      clear(form);
      const dialog = form.closest("dialog"), text = form.dataset.done ?? "Done.";
      if (form.dataset.to) {
        tellAfterReload(text);
        location.assign(form.dataset.to.replace(/\{(\w+)\}/, (_, name) => encodeURIComponent(found[name] ?? "")));
      } else { dialog?.close(); tell(text); refresh(); }
    } catch (error) { show(form, error); } finally { button.disabled = false; }
  }

  // data-fill of a button: field → value, put into the form of the dialog that it opens.
  function fill(button) {
    const dialog = $(button.dataset.fillDialog), form = $("form", dialog), values = JSON.parse(button.dataset.fill);
    form.reset();
    clear(form);
    for (const [name, value] of Object.entries(values)) form.elements[name].value = value ?? "";
    for (const element of $$("[data-fixed]", form)) element.readOnly = Boolean(values[element.name]);
    dialog.showModal();
  }

  // --- what a form would do, before it is sent: data-preview="POST /path", shown in [data-preview-list]

  const waiting = new WeakMap();
  const asked = new WeakMap();

  function previewSoon(form) {
    clearTimeout(waiting.get(form));
    waiting.set(form, setTimeout(() => preview(form), 400));
  }

  async function preview(form) {
    const list = $("[data-preview-list]", form), state = $("[data-preview-state]", form);
    const number = (asked.get(form) ?? 0) + 1;
    asked.set(form, number);
    const isCurrent = () => asked.get(form) === number;
    try {
      const [request, body] = requestOf(form, form.dataset.preview);
      const found = await call(request, body);
      if (!isCurrent()) return;
      clear(form);
      list.replaceChildren(...found.upcoming.map((at) => {
        const item = document.createElement("li");
        item.textContent = firingText(at, body.timezone);
        return item;
      }));
      state.textContent = found.upcoming.length ? found.when : "There is no further firing: look at start and end.";
    } catch (error) {
      if (!isCurrent()) return;
      list.replaceChildren();
      state.textContent = "The times are shown when all fields are right.";
      show(form, error, { focus: false });
    }
  }

  function firingText(at, zone) {
    const utc = `${at.slice(0, 19).replace("T", " ")} UTC`;
    if (!zone || zone === "UTC") return utc;
    try { return `${new Date(at).toLocaleString("sv-SE", { timeZone: zone })} (${utc.slice(11)})`; } catch { return utc; }
  }

  function isComplete(form) {
    return $$("[required]", form).every((each) => each.closest("[hidden]") || each.value.trim() !== "");
  }

  // --- fields that only one choice of a select needs: data-only="select name=value"

  function choose(form) {
    for (const part of $$("[data-only]", form)) {
      const [name, values] = part.dataset.only.split("=");
      part.hidden = !values.split("|").includes(form.elements[name].value);
    }
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.form) return;
    event.preventDefault();
    send(event.target);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-fill]");
    if (button) fill(button);
    const previewing = event.target.closest("button[data-preview-now]");
    if (previewing) preview(previewing.form);
  });
  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form?.dataset.form) return;
    if (event.target.tagName === "SELECT") choose(form);
    if (form.dataset.preview && isComplete(form)) previewSoon(form);
  });
  for (const form of $$("form[data-form]")) {
    choose(form);
    if (form.dataset.preview && isComplete(form)) preview(form);
  }
})();
