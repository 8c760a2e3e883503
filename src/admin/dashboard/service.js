// One service: its traffic, its endpoints, what holds it back, who uses it.

import { bar, chart, pair, perSecond } from "./charts.js";
import { facts, h, heading, pill, table } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";
import { minuteTiles, pending, success, tile } from "./parts.js";

const MOST = 500;

const one = (path, name) => `${path}?service=${encodeURIComponent(name)}`;

export const title = ({ argument }) => argument;
export const sources = (name) => [one("/api/services", name), one("/api/history", name), "/api/map"];

export function render(context) {
  const name = context.argument;
  const found = context.answer(one("/api/services", name));
  const history = context.answer(one("/api/history", name));
  const up = h("p", { class: "up" }, h("a", { href: "#/services" }, "← All services"));
  if (!found || !history) return [up, heading(name), pending(context, one("/api/services", name))];
  const service = found.services[0];
  const series = history.services[0];
  if (!service) return [up, heading(name), h("p", { class: "empty" }, "There is no such service now. One that was made for a host goes when nobody has asked for it for a while.")];
  const [level, word] = health.ofService(service, series.minute);
  return [
    up,
    heading(name, pill(level, word)),
    service.message && h("p", { class: "error" }, `Discovery: ${service.message}`),
    minuteTiles(series.minute, history.minute_seconds, tile("In flight", format.count(service.in_flight), "now")),
    pair(series, history.seconds),
    endpoints(service),
    h("div", { class: "columns" }, about(service), limits(service), retries(service, series, history)),
    traffic(service, context.answer("/api/map")),
  ];
}

function endpoints(service) {
  const all = service.endpoints;
  return h("section", null,
    h("h2", null, "Endpoints ", h("span", { class: "dim" }, `${service.usable} of ${service.endpoint_count} usable`)),
    table({
      caption: `Endpoints of ${service.name}`,
      hideCaption: true,
      class: "cards",
      columns: [
        { name: "Address" }, { name: "State", class: "wide" }, { name: "Load", class: "number" }, { name: "Latency", class: "number" },
        { name: "Failing", class: "number" }, { name: "Weight", class: "number" }, { name: "Place" }, { name: "Health check" }, { name: "Known for", class: "number" },
      ],
      rows: all.slice(0, MOST).map(endpoint),
      empty: service.state === "waiting" ? "Discovery has not answered yet." : "There are none.",
    }),
    service.endpoint_count > MOST && h("p", { class: "dim" }, `The first ${MOST} are shown.`));
}

function endpoint(state, index) {
  const [level, word] = health.ofEndpoint(state);
  return {
    key: `${state.address} ${state.peer ?? ""} ${index}`,
    cells: [
      [h("span", { class: "name mono" }, state.address), h("span", { class: "sub" }, [state.tls && "TLS", state.peer && `through ${state.peer}`].filter(Boolean).join(", "))],
      [pill(level, word), ejection(state)],
      format.count(state.load),
      format.millis(state.latency_ms),
      h("span", { class: `success ${state.failing_percent >= 5 ? "bad" : state.failing_percent >= 0.1 ? "warn" : ""}` }, format.percent(state.failing_percent)),
      state.priority > 0 ? `${state.weight} (priority ${state.priority})` : state.weight,
      [state.zone ?? h("span", { class: "dim" }, "no zone"), h("span", { class: "sub" }, state.place === "elsewhere" ? "" : `this ${state.place}`)],
      check(state.health_check),
      format.span(state.age_seconds),
    ],
  };
}

function ejection(state) {
  if (!state.ejected_because) return null;
  const why = state.ejected_because.replaceAll("_", " ");
  const left = state.ejected_for_seconds === null ? "" : `, tried again in ${format.span(state.ejected_for_seconds)}`;
  const row = state.ejections_in_a_row > 1 ? `, ${state.ejections_in_a_row} times in a row` : "";
  return h("span", { class: "sub" }, `for its ${why}${row}${left}`);
}

function check(state) {
  if (!state) return h("span", { class: "dim" }, "none");
  const level = { healthy: "good", unhealthy: "bad" }[state.status] ?? "idle";
  return [pill(level, state.status), h("span", { class: "sub" }, [state.last, state.last_seconds_ago !== null && format.ago(state.last_seconds_ago)].filter(Boolean).join(", "))];
}

function about(service) {
  return h("section", { class: "card" }, h("h2", null, "Discovery and choice"), facts([
    ["Source", service.source],
    ["Last answer", service.discovery_age_seconds === null ? "fixed: nothing to ask" : format.ago(service.discovery_age_seconds)],
    ["State", service.state],
    ["Protocol", service.protocol],
    ["Balancer", service.balancer],
    ["Made", service.origin === "host" ? "for a host, with its first request" : "by the configuration"],
    ["Passed over", service.passed_over && `for ${format.span(service.passed_over.since_seconds)}, at least ${format.span(service.passed_over.for_seconds)} more`],
  ]));
}

function limits({ breaker }) {
  const use = (name, value, most) => [name, h("span", { class: "use" },
    h("span", null, `${format.count(value)} of ${format.count(most)}`),
    bar(value / most, value >= most ? "bad" : value >= 0.8 * most ? "warn" : "good", `${name}: ${value} of ${most}`))];
  return h("section", { class: "card" },
    h("h2", null, "Breaker ", breaker.open_since ? pill("bad", "open") : pill("good", "closed")),
    facts([
      use("Requests", breaker.running, breaker.limit),
      use("Waiting", breaker.pending, breaker.max_pending),
      use("Connections", breaker.connections, breaker.max_connections),
      ["Refused so far", format.count(breaker.refused)],
      ["Refuses since", breaker.open_since && format.time(breaker.open_since)],
      breaker.limit < breaker.max_requests ? ["Limit", `follows latency; configured are ${format.count(breaker.max_requests)}`] : ["Limit", null],
    ]));
}

function retries(service, series, history) {
  const { minute } = series;
  const ratio = minute.requests ? (100 * minute.retries) / minute.requests : null;
  return h("section", { class: "card" }, h("h2", null, "Retries"),
    facts([
      ["Last minute", `${format.count(minute.retries)}${ratio === null ? "" : ` (${format.percent(ratio)} of requests)`}`],
      ["Budget left", `${format.count(service.retry_budget_available)} retries, ${format.count(service.requeue_budget_available)} requeues`],
    ]),
    chart({
      title: "Retries per second",
      unit: format.rate,
      empty: "none yet",
      small: true,
      lines: [{ name: "retries", class: "retries", values: perSecond(series.retries, history.seconds), filled: true }],
    }));
}

function traffic(service, map) {
  if (!map) return null;
  const share = (edges, name) => table({
    caption: name === "Caller" ? `Who called ${service.name} in the last minute` : `Routes that sent to ${service.name} in the last minute`,
    columns: [{ name }, { name: "Rate", class: "number" }, { name: "Success", class: "number" }],
    rows: edges.map(([who, edge]) => ({ key: who, cells: [who, format.rate(map.seconds > 0 ? edge.requests / map.seconds : null), success(edge.requests, edge.failures)] })),
    empty: "Nobody in the last minute.",
    hideCaption: true,
  });
  const callers = map.edges.filter((edge) => edge.service === service.name).map((edge) => [edge.listener ? `${edge.caller} (${edge.listener})` : edge.caller, edge]);
  const routes = map.routes.filter((edge) => edge.service === service.name).map((edge) => [edge.route, edge]);
  return h("div", { class: "columns" },
    h("section", { class: "card" }, h("h2", null, "Callers"), share(callers, "Caller")),
    h("section", { class: "card" }, h("h2", null, "Routes"), share(routes, "Route")));
}
