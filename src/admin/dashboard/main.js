// The shell: which page is shown, the node's name on top, and what is said when the node does not answer.

import { hasToken, useToken } from "./api.js";
import { h, heading, pill, show } from "./dom.js";
import * as format from "./format.js";
import { answer, link, poll, problem, watch } from "./live.js";
import * as config from "./config.js";
import * as explain from "./explain.js";
import * as map from "./map.js";
import * as routes from "./routes.js";
import * as service from "./service.js";
import * as services from "./services.js";
import * as tap from "./tap.js";

// A page: `title(argument)`, `sources(argument)`: what to ask, `render(context)`: what to show,
// `act(name, element, context)`: what to do when something with `data-act` is used; `enter` and `leave` for those that do more.
const PAGES = { services, service, routes, map, tap, explain, config };
const main = document.getElementById("main");
const banner = document.getElementById("banner");
const node = document.getElementById("node");
const spoken = document.getElementById("spoken");
const fresh = document.getElementById("fresh");

let page = null;
let context = null;

/** `#/services/NAME?key=value` as page, argument and parameters. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  let argument = null;
  try {
    argument = rest.length > 0 ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    // Not ours: as if there were none.
  }
  const known = name === "services" && argument ? "service" : Object.hasOwn(PAGES, name) && name !== "service" ? name : "services";
  return { name: known, argument, parameters: new URLSearchParams(query ?? "") };
}

function go(moved) {
  const { name, argument, parameters } = place();
  page?.leave?.(context);
  page = PAGES[name];
  context = { argument, parameters, answer, problem, link, refresh: render, ui: {} };
  for (const anchor of document.querySelectorAll("#pages a")) {
    const own = anchor.hash === `#/${name === "service" ? "services" : name}`;
    if (own) {
      anchor.setAttribute("aria-current", "page");
      // On small screens the row is wider than the screen.
      anchor.parentElement.parentElement.scrollLeft = anchor.offsetLeft - 80;
    } else anchor.removeAttribute("aria-current");
  }
  main.replaceChildren();
  page.enter?.(context);
  watch(page.sources(argument), render);
  render();
  if (moved) {
    window.scrollTo(0, 0);
    main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

function render() {
  const status = answer("/api/status");
  document.title = `${page.title(context)}${status ? ` · ${status.node}` : ""} · towpath`;
  renderNode(status);
  renderBanner(status);
  document.body.classList.toggle("stale", link.state === "lost");
  if (link.state === "token") show(main, tokenForm());
  else show(main, page.render(context));
}

function renderNode(status) {
  if (!status) return show(node, []);
  const state = link.state === "lost" ? pill("bad", "not answering") : status.state === "running" ? pill("good", "running") : pill("warn", "draining");
  show(node, [
    h("strong", { class: "node-name" }, status.node),
    status.zone && h("span", { class: "dim" }, status.zone),
    state,
    h("span", { class: "dim wide" }, `${status.version}`),
    h("span", { class: "dim wide" }, `up ${format.span(status.uptime_seconds)}`),
  ]);
}

function seconds() {
  return link.last === null ? null : (Date.now() - link.last) / 1000;
}

// Its bold words are read aloud once, when they change, from an element that is always there: screen readers overlook one that appears with
// its text. The age, which changes all the time, is not read.
function renderBanner(status) {
  let parts = null;
  let kind = "bad";
  if (link.state === "lost") {
    const age = seconds();
    parts = [
      h("strong", null, "Connection lost."),
      ` ${link.error?.status ? link.error.message : "The node does not answer."} Trying again every two seconds. `,
      h("span", null, age === null ? "Nothing was known before." : `What you see is ${format.span(age)} old.`),
    ];
  } else if (status?.state === "draining") {
    kind = "warn";
    parts = [h("strong", null, "The node is draining."), " It finishes what runs, takes nothing new, and then stops."];
  } else if (status?.memory?.short_since) {
    parts = [h("strong", null, "Short of memory."), ` New work has been refused since ${format.time(status.memory.short_since)}.`];
  } else if (status?.last_reload?.result === "rejected") {
    kind = "warn";
    parts = [h("strong", null, "The last reload was rejected."), ` Generation ${status.generation} stays in force. `, h("a", { href: "#/config" }, "What was wrong")];
  }
  const words = parts === null ? "" : parts[0].textContent;
  if (spoken.textContent !== words) spoken.textContent = words;
  banner.hidden = parts === null;
  banner.className = `banner ${kind}`;
  show(banner, parts === null ? [] : h("div", { class: "wrap" }, parts));
  show(fresh, link.state === "live" ? "Live: asked every two seconds while this page is seen; the history takes a step every five." : "");
}

function tokenForm() {
  return [
    heading("This node wants to know who asks"),
    h("form", { class: "card narrow", "data-act": "token" },
      hasToken() && h("p", { class: "error", role: "alert" }, "The node does not take this token."),
      h("p", null, "Its admin API is read with a token: the content of the file that ", h("code", null, "admin.read_token"), " or ", h("code", null, "admin.control_token"), " names."),
      h("label", { for: "token" }, "Token"),
      h("input", { id: "token", type: "password", autocomplete: "off", required: true }),
      h("p", { class: "dim" }, "It is kept in this tab until you close it, and sent to this node only."),
      h("button", { type: "submit" }, "Show the node")),
  ];
}

function act(event, kinds) {
  const element = event.target.closest?.("[data-act]");
  if (!element || !kinds.includes(element.localName)) return;
  const name = element.dataset.act;
  if (event.type === "submit") event.preventDefault();
  if (name === "token") {
    useToken(document.getElementById("token").value.trim());
    document.getElementById("token").value = "";
    poll();
    return;
  }
  page.act?.(name, element, context);
}

document.addEventListener("submit", (event) => act(event, ["form"]));
document.addEventListener("click", (event) => act(event, ["button"]));
document.addEventListener("input", (event) => act(event, ["input", "select", "textarea"]));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => go(true));
// How old things are changes without any answer.
setInterval(() => {
  if (link.state === "lost" && !document.hidden) render();
}, 1000);
go(false);
