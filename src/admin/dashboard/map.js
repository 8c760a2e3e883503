// Who calls whom: callers on the left, services on the right, and a line for each pair that is as thick as it is busy.

import { h, heading, s, table } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";
import { pending, serviceLink, success } from "./parts.js";

// More cannot be told apart.
const DRAWN = 40;
const ROW = 48;
const BOX = 34;

export const title = () => "Request map";
export const sources = () => ["/api/map"];

let redraw = null;
export function enter(context) {
  redraw = () => context.refresh();
  window.addEventListener("resize", redraw);
}
export function leave() {
  window.removeEventListener("resize", redraw);
}

const callerName = (edge) => (edge.caller === "unknown" ? (edge.listener ? `unknown, by ${edge.listener}` : "unknown") : edge.caller);
const serviceName = (edge) => edge.service ?? "no route";

export function render(context) {
  const map = context.answer("/api/map");
  if (!map) return [heading("Request map"), pending(context, "/api/map")];
  const edges = [...map.edges].sort((a, b) => b.requests - a.requests);
  const lead = h("p", { class: "lead" }, "Who called what through this node in the last minute. Callers get names by ", h("code", null, "[[callers]]"), " in the configuration; all others are unknown. Lines are as thick as they are busy: blue where all is well, amber where some requests fail, red where one in twenty does.");
  if (edges.length === 0) return [heading("Request map"), lead, h("p", { class: "empty" }, "Nobody called anything in the last minute.")];
  return [
    heading("Request map"),
    lead,
    h("section", { class: "card graph", "aria-label": "Graph" }, draw(edges.slice(0, DRAWN), map.seconds),
      edges.length > DRAWN && h("p", { class: "dim" }, `The ${DRAWN} busiest of ${edges.length} are drawn; the table has all.`)),
    h("section", null, h("h2", null, "The same as a table"), table({
      caption: "Calls in the last minute",
      hideCaption: true,
      class: "cards",
      columns: [{ name: "Caller" }, { name: "Service", class: "wide" }, { name: "Rate", class: "number" }, { name: "Requests", class: "number" }, { name: "Failed", class: "number" }, { name: "Success", class: "number" }],
      rows: edges.map((edge) => ({
        key: `${callerName(edge)} ${serviceName(edge)}`,
        cells: [callerName(edge), edge.service === null ? h("span", { class: "dim" }, "no route") : serviceLink(edge.service), format.rate(edge.requests / map.seconds), format.count(edge.requests), format.count(edge.failures), success(edge.requests, edge.failures)],
      })),
      empty: "",
    })),
  ];
}

function sums(edges, name) {
  const all = new Map();
  for (const edge of edges) {
    const sum = all.get(name(edge)) ?? { requests: 0, failures: 0, at: 0 };
    sum.requests += edge.requests;
    sum.failures += edge.failures;
    all.set(name(edge), sum);
  }
  return all;
}

function draw(edges, seconds) {
  const width = Math.max(300, Math.min(1120, document.getElementById("main").clientWidth - 34));
  const box = Math.min(270, Math.round(width * 0.34));
  const callers = sums(edges, callerName);
  const services = sums(edges, serviceName);
  const height = Math.max(callers.size, services.size) * ROW + 8;
  const place = (all) => {
    const gap = height / all.size;
    [...all.values()].forEach((sum, index) => (sum.at = gap * (index + 0.5)));
  };
  // Each service beside those that call it, so that few lines cross.
  place(callers);
  const ordered = new Map([...services].sort(([a], [b]) => mean(edges, a, callers) - mean(edges, b, callers)));
  place(ordered);
  const ports = [attach(edges, callerName, callers, serviceName, ordered), attach(edges, serviceName, ordered, callerName, callers)];
  const most = Math.max(...edges.map((edge) => edge.requests));
  const lines = edges.map((edge) => line(edge, { from: ports[0].get(edge), to: ports[1].get(edge), turn: ports[1].turns.get(edge), left: box, right: width - box, most, seconds, labels: width > 640 }));
  const words = `Graph of ${format.several(callers.size, "caller")} and ${format.several(services.size, "service")}; the table below says the same.`;
  return s("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words },
    lines.map(({ path }) => path),
    lines.map(({ label }) => label),
    [...callers].map(([name, sum]) => node(name, sum, 1, box, seconds)),
    [...ordered].map(([name, sum]) => node(name, sum, width - box - 1, box, seconds)));
}

/** Where each edge meets its box: side by side, in the order of their other ends. */
function attach(edges, own, boxes, other, others) {
  const ports = new Map();
  ports.turns = new Map();
  for (const [name, { at }] of boxes) {
    const mine = edges.filter((edge) => own(edge) === name).sort((a, b) => others.get(other(a)).at - others.get(other(b)).at);
    const gap = Math.min(9, (BOX - 8) / mine.length);
    mine.forEach((edge, index) => {
      ports.set(edge, at + gap * (index - (mine.length - 1) / 2));
      ports.turns.set(edge, index);
    });
  }
  return ports;
}

function mean(edges, service, callers) {
  const to = edges.filter((edge) => serviceName(edge) === service);
  return to.reduce((sum, edge) => sum + callers.get(callerName(edge)).at, 0) / to.length;
}

function line(edge, { from, to, turn, left, right, most, seconds, labels }) {
  const level = health.ofSuccess(edge.requests, edge.failures);
  const middle = (left + right) / 2;
  const thick = 1.5 + 7 * Math.sqrt(edge.requests / most);
  const words = `${callerName(edge)} → ${serviceName(edge)}: ${format.rate(edge.requests / seconds)}, ${format.success(edge.requests, edge.failures)} success`;
  // Near its own end, where lines of other services are not; each caller's a little further from it than the one before.
  const at = Math.max(0.3, 0.84 - 0.19 * turn);
  // A cubic with both handles half-way: at the parameter `at`.
  const ease = 3 * at ** 2 - 2 * at ** 3;
  const x = left + (right - left) * (1.5 * at - 1.5 * at ** 2 + at ** 3);
  const y = from + (to - from) * ease;
  return {
    path: s("path", { class: `edge ${level}`, d: `M${left} ${from}C${middle} ${from} ${middle} ${to} ${right} ${to}`, "stroke-width": thick.toFixed(1) }, s("title", null, words)),
    label: labels && s("text", { class: "edge-label", x, y: y - thick / 2 - 3 }, `${format.rate(edge.requests / seconds)}${edge.failures > 0 ? ` · ${format.success(edge.requests, edge.failures)}` : ""}`),
  };
}

function node(name, sum, x, width, seconds) {
  const letters = Math.max(4, Math.floor((width - 22) / 8.4));
  const short = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
  const level = health.ofSuccess(sum.requests, sum.failures);
  return s("g", { class: `map-node ${level}` },
    s("title", null, `${name}: ${format.rate(sum.requests / seconds)}`),
    s("rect", { x, y: sum.at - BOX / 2, width, height: BOX, rx: 7 }),
    s("rect", { class: "edge-mark", x, y: sum.at - BOX / 2, width: 4, height: BOX, rx: 2 }),
    s("text", { x: x + 14, y: sum.at + 4.5 }, short));
}
