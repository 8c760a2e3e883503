// The configuration in force, and how it came to be.

import { facts, h, heading, pill, table } from "./dom.js";
import * as format from "./format.js";
import { pending } from "./parts.js";

const LEVEL = { applied: "good", unchanged: "idle", rejected: "bad" };

export const title = () => "Configuration";
export const sources = () => ["/api/config", "/api/reloads"];

export function render(context) {
  const config = context.answer("/api/config");
  const reloads = context.answer("/api/reloads");
  const status = context.answer("/api/status");
  if (!config || !reloads || !status) return [heading("Configuration"), pending(context, config ? "/api/reloads" : "/api/config")];
  return [
    heading("Configuration", pill("good", `generation ${config.generation}`)),
    h("div", { class: "columns" }, node(status), listeners(status)),
    history(reloads),
    certificates(status),
    h("section", null, h("h2", null, "In force"),
      h("p", { class: "lead" }, "As it is meant, with every default filled in. Secrets are named by their files and never shown."),
      Object.entries(config.config).map(([key, value]) => h("details", { class: "card tree", "data-key": key },
        h("summary", null, h("span", { class: "mono" }, key), h("span", { class: "dim" }, size(value))),
        h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2))))),
  ];
}

function size(value) {
  if (value === null) return "not set";
  if (Array.isArray(value)) return format.several(value.length, "entry").replace("entrys", "entries");
  if (typeof value === "object") return format.several(Object.keys(value).length, "key");
  return String(value);
}

function node(status) {
  return h("section", { class: "card" }, h("h2", null, "Node"), facts([
    ["Name", status.node],
    ["Zone", status.zone ?? "none"],
    ["Version", status.version],
    ["State", status.state],
    ["Started", `${format.time(status.started)}, ${format.span(status.uptime_seconds)} ago`],
    ["Workers", format.count(status.workers)],
    ["Memory", [format.bytes(status.memory.used_bytes), status.memory.ceiling_bytes && ` of ${format.bytes(status.memory.ceiling_bytes)}`].filter(Boolean).join("")],
    ["Admin API", `${status.admin.address}${status.admin.tls ? ", TLS" : ""}${status.admin.demands.length > 0 ? `, asks for ${status.admin.demands.join(" or ")}` : ""}`],
    ["Faults", status.routes_with_faults > 0 && h("span", { class: "warn-text" }, `${format.several(status.routes_with_faults, "route")} disturb requests on purpose`)],
  ]));
}

function listeners(status) {
  return h("section", { class: "card" }, h("h2", null, "Listeners"), table({
    caption: "Listeners that are open",
    hideCaption: true,
    class: "cards",
    columns: [{ name: "Name" }, { name: "Kind" }, { name: "Address" }, { name: "TLS" }, { name: "Connections", class: "number" }],
    rows: status.listeners.map((listener) => ({ key: listener.name, cells: [listener.name, listener.kind, h("span", { class: "mono" }, listener.address), listener.tls, format.count(listener.connections)] })),
    empty: "None is open.",
  }));
}

function history({ reloads }) {
  const last = reloads.length - 1;
  return h("section", null, h("h2", null, "Reloads"), table({
    caption: "Configurations that were read, the last first",
    hideCaption: true,
    class: "cards",
    columns: [{ name: "Time" }, { name: "Result", class: "wide" }, { name: "Generation", class: "number" }, { name: "What was wrong", class: "long" }],
    rows: reloads.map((reload, index) => ({
      key: `${reload.at} ${reload.generation}`,
      cells: [
        h("time", { class: "mono", datetime: reload.at }, format.time(reload.at)),
        pill(LEVEL[reload.result] ?? "idle", index === last && reload.generation === 1 ? "started" : reload.result),
        reload.generation,
        reload.error ? h("pre", { class: "wrong" }, reload.error) : h("span", { class: "dim" }, "nothing"),
      ],
    })),
    empty: "None yet.",
  }), reloads.length === 20 && h("p", { class: "dim" }, "The last twenty are kept."));
}

function certificates({ certificates: all }) {
  if (all.length === 0) return null;
  const soon = (ends) => (new Date(ends).getTime() - Date.now()) / 86400000;
  return h("section", null, h("h2", null, "Certificates"), table({
    caption: "Certificates in use",
    hideCaption: true,
    columns: [{ name: "File" }, { name: "Ends" }, { name: "State" }],
    rows: all.map((one) => ({
      key: one.file,
      cells: [h("span", { class: "mono" }, one.file), format.time(one.ends), one.problem ? [pill("bad", "stale"), h("span", { class: "sub" }, one.problem)] : soon(one.ends) < 0 ? pill("bad", "ended") : soon(one.ends) < 14 ? pill("warn", "ends soon") : pill("good", "ok")],
    })),
    empty: "",
  }));
}
