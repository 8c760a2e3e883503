// Live tap: requests as they end, as the access log would write them.

import { NeedsToken, listen } from "./api.js";
import { facts, h, heading, pill } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";

const KEPT = 200;
// The node says something every 15 s.
const SILENCE = 40000;
const SILENT = new Error("silent");
const FIELDS = [
  ["route", "Route", "any"], ["service", "Service", "any"], ["status", "Status", "503 or 5xx"], ["caller", "Caller", "any"],
];

const view = { filters: {}, state: "idle", message: "", events: [], held: 0, dropped: 0, serial: 0 };
let stop = null;
let drawing = false;
// Ended because nobody sees the page: goes on when somebody does.
let resting = false;
let look = null;

export const title = () => "Live tap";
export const sources = () => [];

export function enter(context) {
  for (const [name] of FIELDS) if (context.parameters.has(name)) view.filters[name] = context.parameters.get(name);
  look = () => rest(context);
  document.addEventListener("visibilitychange", look);
}

function rest(context) {
  if (document.hidden && view.state === "open") {
    resting = true;
    stop.abort();
  } else if (!document.hidden && resting) {
    resting = false;
    start(context);
  }
}

export function leave() {
  document.removeEventListener("visibilitychange", look);
  resting = false;
  stop?.abort();
  view.state = "idle";
}

export function act(name, element, context) {
  if (name === "tap") {
    for (const [field] of FIELDS) view.filters[field] = element.elements[field].value.trim();
    view.filters.rate = element.elements.rate.value;
    start(context);
  } else if (name === "stop") {
    stop?.abort();
    view.state = "idle";
    view.message = "Stopped.";
  } else if (name === "pause") {
    view.state = view.state === "paused" ? "open" : "paused";
    view.held = 0;
  } else if (name === "clear") {
    view.events = [];
    view.dropped = 0;
  } else {
    return;
  }
  context.refresh();
}

async function start(context) {
  stop?.abort();
  const own = (stop = new AbortController());
  const given = Object.entries(view.filters).filter(([, value]) => value);
  view.state = "opening";
  view.message = "";
  view.dropped = 0;
  let silence = null;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => own.abort(SILENT), SILENCE);
  };
  heard();
  try {
    await listen(`/api/tap?${new URLSearchParams(given)}`, own.signal, {
      onOpen: () => { heard(); view.state = "open"; context.refresh(); },
      onEvent: (text) => { heard(); take(text, context); },
      onNote: (text) => { heard(); note(text, context); },
    });
    end(own, "The node ended the stream.", context);
  } catch (error) {
    if (error instanceof NeedsToken) end(own, "The node wants another token: reload this page.", context);
    else end(own, error.status ? `The node refuses: ${error.message}` : "The connection broke off. Press Start to try again.", context);
  } finally {
    clearTimeout(silence);
  }
}

function end(own, message, context) {
  if (own.signal.aborted && own.signal.reason !== SILENT) return;
  view.state = "failed";
  view.message = message;
  context.refresh();
}

function take(text, context) {
  if (view.state === "paused") {
    view.held += 1;
    return later(context);
  }
  let record;
  try {
    record = JSON.parse(text);
  } catch {
    return;
  }
  view.serial += 1;
  view.events.unshift({ serial: view.serial, record });
  view.events.length = Math.min(view.events.length, KEPT);
  later(context);
}

function note(text, context) {
  const dropped = /^dropped (\d+)/.exec(text);
  if (dropped) {
    view.dropped += Number(dropped[1]);
    later(context);
  }
}

// However many come, the page is drawn four times a second.
function later(context) {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    if (view.state !== "idle") context.refresh();
  }, 250);
}

export function render(context) {
  const running = view.state === "open" || view.state === "paused" || view.state === "opening";
  return [
    heading("Live tap", running && pill(view.state === "open" ? "good" : "idle", { open: "live", paused: "paused", opening: "opening" }[view.state])),
    h("p", { class: "lead" }, "Requests as they end, each as its line in the access log. The node sends a few of them, never so many that it costs others. In names, * stands for any characters."),
    form(running),
    h("p", { role: "status", class: view.state === "failed" ? "error" : "dim status" }, view.message || (running && view.events.length === 0 ? "Waiting for a request…" : "")),
    view.events.length > 0 && h("p", { class: "dim" }, [
      view.events.length === 1 ? "One request." : `The last ${format.count(view.events.length)} requests${view.events.length === KEPT ? " (no more are kept)" : ""}.`,
      view.dropped > 0 && ` ${format.count(view.dropped)} more were not sent: too many for the rate.`,
      view.state === "paused" && view.held > 0 && ` ${format.count(view.held)} passed by since the pause.`,
    ]),
    !running && view.events.length === 0 && view.state !== "failed" && h("p", { class: "empty" }, "Press Start to see requests as they end. Filters narrow down which; all of them have to hold."),
    h("ol", { class: "events", "aria-label": "Requests, the last first" }, view.events.map(event)),
  ];
}

function form(running) {
  return h("form", { class: "card form", "data-act": "tap" },
    FIELDS.map(([name, label, hint]) => h("div", { class: "field" },
      h("label", { for: `tap-${name}` }, label),
      h("input", { id: `tap-${name}`, name, value: view.filters[name] ?? "", placeholder: hint, autocomplete: "off", spellcheck: "false" }))),
    h("div", { class: "field" },
      h("label", { for: "tap-rate" }, "At most"),
      h("select", { id: "tap-rate", name: "rate" }, [10, 50, 100].map((rate) => h("option", { value: rate, selected: String(rate) === (view.filters.rate ?? "10") }, `${rate} a second`)))),
    h("div", { class: "buttons" },
      h("button", { type: "submit", class: "primary" }, running ? "Start again" : "Start"),
      h("button", { type: "button", "data-act": "pause", disabled: !running }, view.state === "paused" ? "Go on" : "Pause"),
      h("button", { type: "button", "data-act": "stop", disabled: !running }, "Stop"),
      h("button", { type: "button", "data-act": "clear", disabled: view.events.length === 0 }, "Clear")));
}

function text(value) {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return value.map(text).join("; ");
  if (typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${text(inner) ?? format.NONE}`).join(", ");
  return String(value);
}

function event({ serial, record }) {
  return h("li", { "data-key": serial }, h("details", null,
    h("summary", null,
      h("time", { class: "mono dim" }, format.time(record.time)),
      pill(health.ofStatus(record.status), record.status),
      h("span", { class: "mono what" }, h("b", null, record.method), ` ${record.host ?? ""}${record.path ?? ""}`),
      h("span", { class: "dim to" }, record.service ?? record.reason ?? ""),
      h("span", { class: "took" }, format.millis(record.duration_ms))),
    facts(Object.entries(record).map(([name, value]) => [name, text(value)]), "facts record")));
}
