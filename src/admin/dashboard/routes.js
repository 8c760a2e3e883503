// Routes and splits: what is configured beside what is really sent.

import { bar } from "./charts.js";
import { facts, h, heading, table } from "./dom.js";
import * as format from "./format.js";
import { pending, serviceLink, success } from "./parts.js";

const MOST = 100;
const view = { filter: "" };

export const title = () => "Routes";
export const sources = () => ["/api/routes", "/api/map"];

export function act(name, element, context) {
  if (name === "filter") view.filter = element.value.trim().toLowerCase();
  context.refresh();
}

export function render(context) {
  const found = context.answer("/api/routes");
  const map = context.answer("/api/map");
  if (!found || !map) return [heading("Routes"), pending(context, found ? "/api/map" : "/api/routes")];
  const wanted = (route) => [route.name, ...route.hosts].some((text) => text.toLowerCase().includes(view.filter));
  const shown = found.routes.filter(wanted);
  return [
    heading("Routes", h("div", { class: "field inline" },
      h("label", { for: "filter" }, "Filter by name or host"),
      h("input", { id: "filter", type: "search", "data-act": "filter", autocomplete: "off", spellcheck: "false" }))),
    h("p", { class: "lead" }, `${format.several(found.routes.length, "rule")} of generation ${found.generation}. The most specific one that a request meets decides; `, h("a", { href: "#/explain" }, "ask which one"), " that is. Beside each weight stands what was sent in the last minute."),
    shown.length === 0 && h("p", { class: "empty" }, found.routes.length === 0 ? "There are no routes." : "No route has this in its name or hosts."),
    shown.slice(0, MOST).map((route) => card(route, map)),
    shown.length > MOST && h("p", { class: "dim" }, `${MOST} of ${shown.length} are shown: filter to see others.`),
  ];
}

function card(route, map) {
  const sent = map.routes.filter((share) => share.route === route.name);
  const all = sent.reduce((sum, share) => sum + share.requests, 0);
  const failed = sent.reduce((sum, share) => sum + share.failures, 0);
  return h("section", { class: "card route", "data-key": route.name },
    h("div", { class: "heading" },
      h("h2", null, route.name),
      h("span", { class: "numbers" }, format.rate(map.seconds > 0 ? all / map.seconds : null), " ", all > 0 && success(all, failed))),
    facts([
      ["Hosts", list(route.hosts)],
      ["Listeners", route.listeners.join(", ")],
      ["Match", conditions(route.match)],
      ["Timeout", [route.timeout && `${route.timeout} whole`, route.attempt_timeout && `${route.attempt_timeout} an attempt`].filter(Boolean).join(", ")],
      ["Retry", route.retry && `on ${route.retry.on.join(", ")}: ${route.retry.attempts} attempts`],
      ["Hedge", route.hedge && (route.hedge.after ? `after ${route.hedge.after}` : `after the ${route.hedge.percentile}th percentile`)],
      ["Fault", route.fault && h("span", { class: "warn-text" }, `on purpose: ${JSON.stringify(route.fault)}`)],
    ], "facts wide-facts"),
    split(route, sent, all));
}

const list = (hosts) => (hosts.length > 6 ? `${hosts.slice(0, 6).join(", ")} and ${hosts.length - 6} more` : hosts.join(", "));

function conditions(entries) {
  const one = ([key, value]) => {
    const name = key.replaceAll("_", " ").replace(/s$/, "");
    if (typeof value === "string") return `${name} ${value}`;
    if (Array.isArray(value)) return `${name} ${value.join(" or ")}`;
    return Object.entries(value).map(([of, wanted]) => `${name} ${of}: ${typeof wanted === "string" ? wanted : wanted.present === false ? "absent" : wanted.present ? "any" : Object.values(wanted).join()}`).join(", ");
  };
  const said = entries.map((entry) => Object.entries(entry).map(one).join(", "));
  const some = said.filter(Boolean);
  return some.length === 0 ? null : some.slice(0, 5).join(" · ") + (some.length > 5 ? ` and ${some.length - 5} more` : "");
}

function split(route, sent, all) {
  const weights = route.backends.reduce((sum, backend) => sum + backend.weight, 0);
  const named = new Set(route.backends.map((backend) => backend.service).filter(Boolean));
  const stand = new Set(route.failover);
  const rest = sent.filter((share) => !named.has(share.service));
  const row = (key, label, role, weight, share) => {
    const wanted = weight === null ? null : weights > 0 ? (100 * weight) / weights : 0;
    const got = all > 0 ? (100 * (share?.requests ?? 0)) / all : null;
    return {
      key,
      cells: [
        [label, h("span", { class: "sub" }, role)],
        wanted === null ? format.NONE : h("span", { class: "use" }, format.percent(wanted), bar(wanted / 100, "wanted", `configured ${format.percent(wanted)}`)),
        h("span", { class: "use" }, format.percent(got), bar((got ?? 0) / 100, "sent", `sent ${format.percent(got)}`)),
        format.count(share?.requests ?? 0),
        success(share?.requests, share?.failures),
      ],
    };
  };
  const rows = route.backends.map((backend, index) => {
    if (backend.service) return row(`b ${index}`, serviceLink(backend.service), "", backend.weight, sent.find((share) => share.service === backend.service));
    const made = rest.filter((share) => !stand.has(share.service));
    const sum = made.reduce((so, share) => ({ requests: so.requests + share.requests, failures: so.failures + share.failures }), { requests: 0, failures: 0 });
    return row(`b ${index}`, h("span", { class: "mono" }, backend.dns), `a service for each host: ${made.length} in use`, backend.weight, sum);
  });
  const standing = route.failover.map((name, index) => row(`f ${index}`, serviceLink(name), "stands in (failover)", null, sent.find((share) => share.service === name)));
  return table({
    caption: `Backends of ${route.name}`,
    hideCaption: true,
    class: "cards split",
    columns: [{ name: "Backend" }, { name: "Configured" }, { name: "Sent" }, { name: "Requests", class: "number" }, { name: "Success", class: "number" }],
    rows: [...rows, ...standing],
    empty: "It has no backends.",
  });
}
