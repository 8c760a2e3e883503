// Small charts. Each says in words what it shows, for those who do not see it.

import { h, s } from "./dom.js";
import * as format from "./format.js";

// A chart is never shorter than two minutes, and never longer than ten.
const SHORTEST = 24;
const LONGEST = 120;

const stepsOf = (length) => Math.min(LONGEST, Math.max(SHORTEST, length));

/** A round number not below `value`. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}

/** Points of a line, right-aligned: the last is now. Gaps where there is no value. */
function path(values, { width, height, max, top = 0 }) {
  const step = width / (stepsOf(values.length) - 1);
  const first = width - (values.length - 1) * step;
  let pen = "M";
  let text = "";
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    const x = first + index * step;
    const y = top + height - (Math.min(value, max) / max) * height;
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    // A point alone is a short line.
    if (values[index - 1] == null && values[index + 1] == null) text += `L${(x + 1.5).toFixed(1)} ${y.toFixed(1)}`;
  });
  return text;
}

function area(values, box) {
  if (values.length < 2) return "";
  const step = box.width / (stepsOf(values.length) - 1);
  const first = box.width - (values.length - 1) * step;
  const base = (box.top ?? 0) + box.height;
  return `${path(values, box)}L${box.width.toFixed(1)} ${base}L${first.toFixed(1)} ${base}Z`;
}

/** A service's requests and failures, as small as a word. */
export function spark(series, seconds) {
  const box = { width: 120, height: 26, top: 1 };
  const requests = perSecond(series.requests, seconds);
  const failures = perSecond(series.failures, seconds);
  box.max = Math.max(...requests, 0.001);
  const failed = series.failures.reduce((sum, value) => sum + value, 0);
  const all = series.requests.reduce((sum, value) => sum + value, 0);
  const words = all === 0 ? "No requests in the last ten minutes" : `Up to ${format.rate(box.max)}, ${format.count(failed)} failed`;
  return s("svg", { class: "spark", viewBox: "0 0 120 28", width: 120, height: 28, preserveAspectRatio: "none", role: "img", "aria-label": words },
    s("path", { class: "area requests", d: area(requests, box) }),
    s("path", { class: "line requests", d: path(requests, box) }),
    failed > 0 && s("path", { class: "area failures", d: area(failures, box) }));
}

/** Each count of a step as a rate. */
export function perSecond(counts, seconds) {
  return counts.map((value, index) => value / (seconds[index] || 5));
}

/**
 * A chart of ten minutes. `lines`: {name, class, values, filled}; `unit` writes a value.
 */
export function chart({ title, lines, unit, empty, small }) {
  const box = { width: small ? 260 : 560, height: small ? 70 : 120, top: 10 };
  const known = lines.flatMap((line) => line.values).filter((value) => value !== null && value !== undefined);
  box.max = ceiling(Math.max(0, ...known));
  const last = (line) => line.values.findLast((value) => value !== null && value !== undefined);
  const said = known.length === 0 ? empty : `${lines.map((line) => `${line.name}: now ${unit(line.values.at(-1) ?? null)}, at most ${unit(Math.max(0, ...line.values.filter((value) => value != null)))}`).join("; ")}`;
  const minutes = (stepsOf(lines[0].values.length) * 5) / 60;
  const base = box.top + box.height + 20;
  const grid = [0, 0.5, 1].map((part) => {
    const y = box.top + box.height * (1 - part);
    return [
      s("line", { class: "grid", x1: 0, x2: box.width, y1: y, y2: y }),
      s("text", { class: "tick", x: box.width + 8, y: y + 4 }, part === 0 ? "0" : unit(box.max * part)),
    ];
  });
  return h("figure", { class: small ? "chart small" : "chart" },
    h("figcaption", null,
      h("span", { class: "chart-title" }, title),
      h("span", { class: "legend" }, lines.map((line) => h("span", { class: `key ${line.class}` },
        h("span", { class: "swatch", "aria-hidden": "true" }), line.name, " ", h("b", null, unit(last(line) ?? null)))))),
    s("svg", { viewBox: `0 0 ${box.width + 76} ${base + 6}`, role: "img", "aria-label": `${title}, the last ${ago(minutes)}. ${said}` },
      grid,
      lines.map((line) => [
        line.filled && s("path", { class: `area ${line.class}`, d: area(line.values.map((value) => value ?? 0), box) }),
        s("path", { class: `line ${line.class}`, d: path(line.values, box) }),
      ]),
      s("text", { class: "tick", x: 0, y: base }, `${ago(minutes)} ago`),
      !small && s("text", { class: "tick mid", x: box.width / 2, y: base }, ago(minutes / 2)),
      s("text", { class: "tick end", x: box.width, y: base }, "now"),
      known.length === 0 && s("text", { class: "none", x: box.width / 2, y: box.top + box.height / 2 + 4 }, empty)));
}

const ago = (minutes) => (minutes < 1 ? `${Math.round(minutes * 60)} s` : `${minutes < 10 ? minutes.toFixed(1).replace(".0", "") : Math.round(minutes)} min`);

/** The two charts of a series: how much, and how long. */
export function pair(series, seconds) {
  const requests = perSecond(series.requests, seconds);
  const failures = perSecond(series.failures, seconds);
  return h("div", { class: "charts" },
    chart({
      title: "Requests per second",
      unit: format.rate,
      empty: "no requests yet",
      lines: [
        { name: "all", class: "requests", values: requests, filled: true },
        { name: "failed", class: "failures", values: failures, filled: true },
      ],
    }),
    chart({
      title: "Latency",
      unit: format.millis,
      empty: "no requests yet",
      lines: [
        { name: "p50", class: "p50", values: series.p50_ms },
        { name: "p95", class: "p95", values: series.p95_ms },
        { name: "p99", class: "p99", values: series.p99_ms },
      ],
    }));
}

/** A bar from nothing to all, `part` of it filled. */
export function bar(part, kind, words) {
  const width = Math.max(0, Math.min(1, part || 0)) * 100;
  return s("svg", { class: `meter ${kind}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": words },
    s("rect", { class: "rail", x: 0, y: 0, width: 100, height: 6 }),
    s("rect", { class: "fill", x: 0, y: 0, width: width.toFixed(2), height: 6 }));
}
