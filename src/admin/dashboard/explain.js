// Explain: where a request would go, and why not elsewhere.

import { NeedsToken, read } from "./api.js";
import { facts, h, heading, pill, table } from "./dom.js";
import * as format from "./format.js";
import { poll } from "./live.js";
import { serviceLink } from "./parts.js";

const view = { question: { method: "GET", url: "", listener: "", caller: "", headers: "" }, result: null, error: null, busy: false };

export const title = () => "Explain";
export const sources = () => [];

export function enter({ parameters }) {
  if (parameters.has("url")) view.question.url = parameters.get("url");
}

export async function act(name, element, context) {
  if (name !== "explain") return;
  const field = (key) => element.elements[key].value.trim();
  view.question = { method: field("method") || "GET", url: field("url"), listener: field("listener"), caller: field("caller"), headers: field("headers") };
  const { headers, ...rest } = view.question;
  const parameters = new URLSearchParams(Object.entries(rest).filter(([, value]) => value));
  headers.split("\n").filter((line) => line.trim()).forEach((line) => parameters.append("header", line.trim()));
  view.busy = true;
  context.refresh();
  try {
    view.result = await read(`/api/explain?${parameters}`);
    view.error = null;
  } catch (error) {
    view.result = null;
    // The next look meets the same refusal, and the page asks for the token.
    if (error instanceof NeedsToken) poll();
    view.error = error instanceof NeedsToken ? "The node wants another token." : error.status ? error.message : "The node does not answer.";
  }
  view.busy = false;
  context.refresh();
}

export function render(context) {
  return [
    heading("Explain"),
    h("p", { class: "lead" }, "Asks the router in force where a request would go, and why. Nothing is sent anywhere."),
    form(context.answer("/api/status")?.listeners ?? []),
    h("div", { role: "status" }, view.busy ? h("p", { class: "dim" }, "Asking…") : view.error && h("p", { class: "error" }, view.error)),
    view.result && result(view.result),
  ];
}

function form(listeners) {
  const { question } = view;
  return h("form", { class: "card form", "data-act": "explain" },
    h("div", { class: "field short" }, h("label", { for: "method" }, "Method"),
      h("input", { id: "method", name: "method", value: question.method, list: "methods", autocomplete: "off" }),
      h("datalist", { id: "methods" }, ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"].map((name) => h("option", { value: name })))),
    h("div", { class: "field long" }, h("label", { for: "url" }, "URL"),
      h("input", { id: "url", name: "url", value: question.url, placeholder: "http://reviews/v2?page=1", required: true, autocomplete: "off", spellcheck: "false", inputmode: "url" })),
    h("div", { class: "field" }, h("label", { for: "listener" }, "Listener"),
      h("select", { id: "listener", name: "listener" }, h("option", { value: "" }, "the first outgoing one"),
        listeners.map(({ name, kind }) => h("option", { value: name, selected: name === question.listener }, `${name} (${kind})`)))),
    h("div", { class: "field" }, h("label", { for: "caller" }, "Caller"),
      h("input", { id: "caller", name: "caller", value: question.caller, placeholder: "unknown", autocomplete: "off", spellcheck: "false" })),
    h("div", { class: "field all" }, h("label", { for: "headers" }, "Headers, a line each"),
      h("textarea", { id: "headers", name: "headers", rows: "2", placeholder: "x-user: 7", spellcheck: "false" }, question.headers)),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Explain")));
}

function result(answer) {
  const { route } = answer;
  return [
    h("section", { class: "card" },
      h("div", { class: "heading" }, h("h2", null, route ? ["Route ", h("span", { class: "mono" }, route.name)] : "No route"), route ? pill("good", "matches") : pill("bad", "404 no_route")),
      h("p", null, h("span", { class: "mono" }, `${answer.method} ${answer.host}${answer.path}${answer.query ? `?${answer.query}` : ""}`), ` on ${answer.listener}, asked by ${answer.caller}.`),
      route && [
        facts([
          ["Because", route.because],
          ["Timeout", [route.timeout && `${route.timeout} whole`, route.attempt_timeout && `${route.attempt_timeout} an attempt`].filter(Boolean).join(", ") || "none"],
          ["Failover", route.failover.join(", then ")],
          ["Fault", route.fault],
          ["Token", route.token],
          ["Authorization", route.authorize],
        ], "facts wide-facts"),
        table({
          caption: "Where it would go",
          class: "cards",
          columns: [{ name: "Service" }, { name: "Share", class: "number" }, { name: "Source" }, { name: "Protocol" }, { name: "Balancer" }, { name: "Policy" }],
          rows: route.backends.map((backend, index) => ({
            key: index,
            cells: [serviceLink(backend.service), format.percent(backend.percent), backend.source, backend.protocol, backend.balancer, policy(backend.policy)],
          })),
          empty: "It has no backends.",
        }),
      ]),
    h("section", null, h("h2", null, "Other routes"), table({
      caption: "Why not another route",
      hideCaption: true,
      columns: [{ name: "Route" }, { name: "Matches" }, { name: "Why not" }],
      rows: answer.others.map((other, index) => ({ key: index, cells: [other.name, other.matches ? "yes" : "no", other.reason] })),
      empty: "The listener has no others.",
    })),
  ];
}

function policy(allowed) {
  if (allowed === null || typeof allowed !== "object") return String(allowed ?? format.NONE);
  const { decision, by, because } = allowed;
  return [pill(decision === "allowed" ? "good" : "bad", decision), h("span", { class: "sub" }, [by && `by ${by}`, because].filter(Boolean).join(": "))];
}
