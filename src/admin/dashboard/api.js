// The admin API: asks, with the token if there is one.

// Ends with the tab. Never in a cookie, which a browser would send of itself.
const KEY = "towpath-token";
let token = sessionStorage.getItem(KEY);

/** The node wants to know who asks. */
export class NeedsToken extends Error {}
/** The node answered, but not with what was asked for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const hasToken = () => token !== null;

export function useToken(text) {
  token = text;
  if (text === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, text);
}

async function ask(path, options) {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  if (answer.status === 401) throw new NeedsToken();
  const text = await answer.text();
  let message = text.trim();
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // Not JSON: as it is.
  }
  throw new Refused(answer.status, message || `status ${answer.status}`);
}

// After this, a node that accepts and says nothing counts as lost.
const PATIENCE = 8000;

/** The JSON at a path. */
export async function read(path) {
  const answer = await ask(path, { signal: AbortSignal.timeout(PATIENCE) });
  return answer.json();
}

/** Server-sent events, for as long as `signal` allows: `onOpen`, then `onEvent` with each data, `onNote` with each comment. */
export async function listen(path, signal, { onOpen, onEvent, onNote }) {
  const answer = await ask(path, { signal });
  onOpen();
  const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await text.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) onEvent(line.slice(5).trim());
      else if (line.startsWith(":")) onNote(line.slice(1).trim());
    }
  }
}
