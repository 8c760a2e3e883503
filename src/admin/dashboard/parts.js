// Pieces that several pages show.

import { h, s } from "./dom.js";
import * as format from "./format.js";
import * as health from "./health.js";

export const serviceLink = (name) => h("a", { href: `#/services/${encodeURIComponent(name)}`, class: "name" }, name);

/** A number with its name. */
export function tile(name, value, note, level) {
  return h("div", { class: `tile ${level ?? ""}` }, h("dt", null, name), h("dd", null, h("span", { class: "value" }, value), note && h("span", { class: "note" }, note)));
}

/** A success rate, coloured by how bad it is. */
export function success(requests, failures) {
  const level = health.ofSuccess(requests, failures);
  const mark = { warn: " ▲", bad: " ■" }[level];
  return h("span", { class: `success ${level}` }, format.success(requests, failures), mark && h("span", { "aria-hidden": "true", class: "mark" }, mark));
}

/** The tiles of a minute. */
export function minuteTiles(minute, seconds, more) {
  const known = minute.requests > 0;
  return h("dl", { class: "tiles" },
    tile("Requests", format.rate(seconds > 0 ? minute.requests / seconds : null), "last minute"),
    tile("Success", format.success(minute.requests, minute.failures), known ? `${format.count(minute.failures)} failed` : "no requests", health.ofSuccess(minute.requests, minute.failures)),
    tile("p50", format.millis(minute.p50_ms), "half are faster"),
    tile("p95", format.millis(minute.p95_ms), "1 in 20 is slower"),
    tile("p99", format.millis(minute.p99_ms), "1 in 100 is slower"),
    more);
}

/** What stands in a page before its first answer, or where the node refuses one. */
export function pending({ link, problem }, path) {
  const why = problem(path);
  if (why) return h("p", { class: "error", role: "alert" }, `The node does not tell: ${why.message}`);
  if (link.state === "lost") return h("p", { class: "empty" }, "Nothing is known yet. It will show as soon as the node answers.");
  return h("p", { class: "empty loading" }, "Asking the node…");
}

export const success_note = "A request has failed when its caller got a status of 500 or above, whether an endpoint or towpath itself made it. A gRPC call counts by its HTTP status.";

/** An arrow, for eyes only. */
export const arrow = () => s("svg", { class: "arrow", viewBox: "0 0 16 10", width: 16, height: 10, "aria-hidden": "true" }, s("path", { d: "M0 5h14M10 1l4 4-4 4" }));
