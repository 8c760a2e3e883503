// Asks again and again for what the page shows, for as long as somebody sees it; and knows how old the answers are.

import { NeedsToken, Refused, read } from "./api.js";

const EVERY = 2000;
// The history takes a step each five seconds: asking more often tells nothing new.
// The configuration stays what it is until there is another generation.
const PACE = { history: 4000, map: 4000, config: 60000, routes: 60000 };

const answers = new Map();
let wanted = [];
let onChange = () => {};
let timer = null;
let running = false;
let again = false;

/** How the connection is: `connecting`, `live`, `lost` or `token`, and since when. */
export const link = { state: "connecting", since: Date.now(), last: null, error: null };

/** The last answer of a path, or undefined. */
export const answer = (path) => answers.get(path)?.value;
/** Why a path has no answer. */
export const problem = (path) => answers.get(path)?.error;

export function watch(paths, changed) {
  wanted = [...new Set(["/api/status", ...paths])];
  onChange = changed;
  for (const path of answers.keys()) if (!wanted.includes(path)) answers.delete(path);
  poll();
}

function set(state, error = null) {
  if (link.state !== state) link.since = Date.now();
  link.state = state;
  link.error = error;
}

function isDue(path) {
  const known = answers.get(path);
  const pace = PACE[path.split(/[/?]/)[2]] ?? 0;
  return !known || link.state !== "live" || Date.now() - known.at >= pace;
}

async function fetchOne(path) {
  try {
    const value = await read(path);
    if (path === "/api/status" && answer(path)?.generation !== value.generation) renew();
    answers.set(path, { value, at: Date.now() });
  } catch (error) {
    // What the node refuses is an answer too; whatever else happens means that there is none.
    if (!(error instanceof Refused)) throw error;
    answers.set(path, { error, at: Date.now() });
  }
}

/** Another configuration is in force: what was known of the old one is due again. */
function renew() {
  for (const known of answers.values()) {
    known.at = 0;
    again = true;
  }
}

/** Asks now, and then every two seconds. */
export async function poll() {
  clearTimeout(timer);
  timer = null;
  if (document.hidden) return;
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    await Promise.all(wanted.filter(isDue).map(fetchOne));
    set("live");
    link.last = Date.now();
  } catch (error) {
    set(error instanceof NeedsToken ? "token" : "lost", error);
  }
  running = false;
  try {
    onChange();
  } finally {
    // Whatever a page cannot draw, the next answers may be drawn.
    if (again) {
      again = false;
      poll();
    } else if (link.state !== "token" && !document.hidden) {
      timer = setTimeout(poll, EVERY);
    }
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
  else clearTimeout(timer);
});
