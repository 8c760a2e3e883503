// Who calls whom: callers on the left, services on the right, and a line for each pair that is as thick as it is busy.

import { h, heading, s, table } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";
import { pending, serviceLink, success } from "./parts.js";

// More cannot be told apart.
const DRAWN = 40;
const ROW = 46;
const BOX = 32;

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
  const lead = h("p", { class: "lead" }, "Who called what through this node in the last minute. Callers get names by ", h("code", null, "[[callers]]"), " in the configuration; all others are unknown.");
  if (edges.length === 0) return [heading("Request map"), lead, h("p", { class: "empty" }, "Nobody called anything in the last minute.")];
  return [
    heading("Request map"),
    lead,
    h("section", { class: "card graph", "aria-label": "Graph" }, draw(edges.slice(0, DRAWN), map.seconds),
      edges.length > DRAWN && h("p", { class: "dim" }, `The ${DRAWN} busiest of ${edges.length} are drawn; the table has all.`)),
    h("section", null, h("h2", null, "The same as a table"), table({
      caption: "Calls in the last minute",
      hideCaption: true,
      columns: [{ name: "Caller" }, { name: "Service" }, { name: "Rate", class: "number" }, { name: "Requests", class: "number" }, { name: "Failed", class: "number" }, { name: "Success", class: "number" }],
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
  const most = Math.max(...edges.map((edge) => edge.requests));
  const lines = edges.map((edge) => line(edge, { from: callers.get(callerName(edge)).at, to: ordered.get(serviceName(edge)).at, left: box, right: width - box, most, seconds, labels: width > 640 }));
  const words = `Graph of ${format.several(callers.size, "caller")} and ${format.several(services.size, "service")}; the table below says the same.`;
  return s("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words },
    lines.map(({ path }) => path),
    lines.map(({ label }) => label),
    [...callers].map(([name, sum]) => node(name, sum, 1, box, seconds)),
    [...ordered].map(([name, sum]) => node(name, sum, width - box - 1, box, seconds)));
}

function mean(edges, service, callers) {
  const to = edges.filter((edge) => serviceName(edge) === service);
  return to.reduce((sum, edge) => sum + callers.get(callerName(edge)).at, 0) / to.length;
}

function line(edge, { from, to, left, right, most, seconds, labels }) {
  const level = health.ofSuccess(edge.requests, edge.failures);
  const middle = (left + right) / 2;
  const thick = 1.5 + 7 * Math.sqrt(edge.requests / most);
  const words = `${callerName(edge)} → ${serviceName(edge)}: ${format.rate(edge.requests / seconds)}, ${format.success(edge.requests, edge.failures)} success`;
  // Near its own end, where lines of other services are not.
  const x = left + (right - left) * 0.7;
  const y = from + (to - from) * 0.784;
  return {
    path: s("path", { class: `edge ${level}`, d: `M${left} ${from}C${middle} ${from} ${middle} ${to} ${right} ${to}`, "stroke-width": thick.toFixed(1) }, s("title", null, words)),
    label: labels && s("text", { class: "edge-label", x, y: y - thick / 2 - 3 }, `${format.rate(edge.requests / seconds)}${edge.failures > 0 ? ` · ${format.success(edge.requests, edge.failures)}` : ""}`),
  };
}

function node(name, sum, x, width, seconds) {
  const letters = Math.max(4, Math.floor((width - 20) / 7.6));
  const short = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
  const level = health.ofSuccess(sum.requests, sum.failures);
  return s("g", { class: `map-node ${level}` },
    s("title", null, `${name}: ${format.rate(sum.requests / seconds)}`),
    s("rect", { x, y: sum.at - BOX / 2, width, height: BOX, rx: 7 }),
    s("rect", { class: "edge-mark", x, y: sum.at - BOX / 2, width: 4, height: BOX, rx: 2 }),
    s("text", { x: x + 14, y: sum.at + 4.5 }, short));
}
