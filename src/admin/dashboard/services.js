// All services: how they are, what they carry, and how that was.

import { pair, spark } from "./charts.js";
import { h, heading, pill, table } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";
import { minuteTiles, pending, serviceLink, success, success_note, tile } from "./parts.js";

const SERVICES = "/api/services?endpoints=false";
// More rows than anybody reads; the filter finds the rest.
const MOST = 200;
// What has no percentile is sorted below what has any.
const of = (row, key) => row.minute?.[key] ?? -1;
const WORST = { bad: 0, warn: 1, idle: 2, good: 3 };
const SORTS = {
  name: (a, b) => a.service.name.localeCompare(b.service.name),
  state: (a, b) => WORST[a.health[0]] - WORST[b.health[0]],
  rate: (a, b) => of(b, "requests") - of(a, "requests"),
  success: (a, b) => failing(b) - failing(a),
  p50: (a, b) => of(b, "p50_ms") - of(a, "p50_ms"),
  p95: (a, b) => of(b, "p95_ms") - of(a, "p95_ms"),
  p99: (a, b) => of(b, "p99_ms") - of(a, "p99_ms"),
};
// Outlives a visit to another page.
const view = { sort: "name", filter: "" };

const failing = (row) => (row.minute?.requests ? row.minute.failures / row.minute.requests : -1);

export const title = () => "Services";
export const sources = () => [SERVICES, "/api/history"];

export function act(name, element, context) {
  if (name === "filter") view.filter = element.value.trim().toLowerCase();
  if (name === "sort") view.sort = element.dataset.sort;
  context.refresh();
}

export function render(context) {
  const services = context.answer(SERVICES)?.services;
  const history = context.answer("/api/history");
  if (!services || !history) return [heading("Services"), pending(context, services ? "/api/history" : SERVICES)];
  const past = new Map(history.services.map((series) => [series.name, series]));
  const rows = services.map((service) => {
    const series = past.get(service.name);
    return { service, series, minute: series?.minute, health: health.ofService(service, series?.minute) };
  });
  return [
    heading("Services"),
    h("section", { "aria-label": "The whole node" },
      minuteTiles(history.node.minute, history.minute_seconds, whole(rows)),
      pair(history.node, history.seconds)),
    list(rows, history),
    h("p", { class: "dim small" }, success_note),
  ];
}

function whole(rows) {
  const running = rows.reduce((sum, { service }) => sum + service.in_flight, 0);
  const bad = rows.filter((row) => row.health[0] === "bad").length;
  const warn = rows.filter((row) => row.health[0] === "warn").length;
  const note = bad + warn === 0 ? "all are well" : [bad && `${bad} failing`, warn && `${warn} impaired`].filter(Boolean).join(", ");
  return [
    tile("In flight", format.count(running), "now"),
    tile("Services", format.count(rows.length), rows.length > 0 && note, bad ? "bad" : warn ? "warn" : ""),
  ];
}

function list(rows, history) {
  const shown = rows.filter(({ service }) => service.name.toLowerCase().includes(view.filter)).sort((a, b) => SORTS[view.sort](a, b) || SORTS.name(a, b));
  return h("section", { "aria-labelledby": "all-services" },
    h("div", { class: "heading" },
      h("h2", { id: "all-services" }, "All services"),
      rows.length > 1 && h("div", { class: "field inline" },
        h("label", { for: "filter" }, "Filter by name"),
        h("input", { id: "filter", type: "search", "data-act": "filter", autocomplete: "off", spellcheck: "false" }))),
    table({
      caption: "Services, over the last minute",
      hideCaption: true,
      class: "cards",
      columns: [
        column("Service", "name"),
        column("State", "state", "wide"),
        column("Rate", "rate", "number"),
        column("Success", "success", "number"),
        { name: "In flight", class: "number" },
        column("p50", "p50", "number"),
        column("p95", "p95", "number"),
        column("p99", "p99", "number"),
        { name: "History", class: "drawn" },
      ],
      rows: shown.slice(0, MOST).map((row) => line(row, history)),
      empty: rows.length === 0 ? "There are no services. Those for hosts appear with their first request." : "No service has this in its name.",
    }),
    shown.length > MOST && h("p", { class: "dim" }, `${MOST} of ${format.several(shown.length, "service")} are shown: filter by name to see others.`));
}

function column(name, sort, kind) {
  const own = view.sort === sort;
  const order = sort === "name" || sort === "state" ? "ascending" : "descending";
  return {
    name,
    class: kind,
    sort: own ? order : null,
    head: h("button", { type: "button", class: "sort", "data-act": "sort", "data-sort": sort }, name, h("span", { "aria-hidden": "true" }, own ? (order === "ascending" ? " ↑" : " ↓") : "")),
  };
}

function line({ service, series, minute, health: [level, word] }, history) {
  const rate = minute && history.minute_seconds > 0 ? minute.requests / history.minute_seconds : 0;
  return {
    key: service.name,
    cells: [
      [serviceLink(service.name), h("span", { class: "sub" }, service.source)],
      pill(level, word),
      format.rate(rate),
      success(minute?.requests, minute?.failures),
      format.count(service.in_flight),
      format.millis(minute?.p50_ms),
      format.millis(minute?.p95_ms),
      format.millis(minute?.p99_ms),
      series ? spark(series, history.seconds) : h("span", { class: "dim" }, "no requests"),
    ],
  };
}
