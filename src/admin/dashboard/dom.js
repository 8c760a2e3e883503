// Elements from values, and the page kept in step with them.
//
// Names come from files and from the hosts of requests: whatever is not one of our elements becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child === undefined || child === null || child === false) continue;
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An HTML element. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

// What a person has done to an element is no business of a new rendering.
const OWN = new Set(["open"]);

/** Makes the children of `root` those of `children`, and keeps every element that stays: focus, selection, scroll and all. */
export function show(root, children) {
  const fresh = document.createDocumentFragment();
  append(fresh, [children]);
  const focus = document.activeElement;
  reconcile(root, fresh);
  if (focus && focus !== document.activeElement && root.contains(focus)) focus.focus({ preventScroll: true });
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

function reconcile(parent, fresh) {
  const keyed = new Map();
  for (const child of parent.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let at = parent.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = keyOf(next);
    const known = key === null ? at : keyed.get(key);
    if (known && keyOf(known) === key && known.nodeName === next.nodeName) {
      if (known === at) at = at.nextSibling;
      else parent.insertBefore(known, at);
      keyed.delete(key);
      update(known, next);
    } else {
      parent.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function update(known, next) {
  if (known.nodeType === Node.TEXT_NODE) {
    if (known.data !== next.data) known.data = next.data;
    return;
  }
  for (const { name } of [...known.attributes]) {
    if (!next.hasAttribute(name) && !OWN.has(name)) known.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (known.getAttribute(name) !== value && !OWN.has(name)) known.setAttribute(name, value);
  }
  reconcile(known, next);
}

/** A table. `columns`: {name, class, label} each; `rows`: {key, cells}. The first cell of a row is its heading. */
export function table({ caption, columns, rows, empty, class: kind, hideCaption }) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const head = columns.map((column) =>
    h("th", { scope: "col", role: "columnheader", class: column.class, "aria-sort": column.sort }, column.head ?? column.name));
  const cell = (content, index) =>
    h(index === 0 ? "th" : "td", {
      scope: index === 0 ? "row" : null,
      role: index === 0 ? "rowheader" : "cell",
      class: columns[index].class,
      "data-label": columns[index].name,
    }, content);
  // The roles are what the elements are; said again because small screens lay them out as blocks, which browsers take for plain ones.
  return h("div", { class: "scroll", role: "group", "aria-label": caption, tabindex: "0" },
    h("table", { role: "table", class: kind },
      h("caption", { class: hideCaption ? "unseen" : null }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, rows.map((row) =>
        h("tr", { role: "row", "data-key": row.key, class: row.class }, row.cells.map(cell))))));
}

/** Terms and what is to be said of them; pairs without a value are left out. */
export function facts(pairs, kind) {
  const said = pairs.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return h("dl", { class: kind ?? "facts" },
    said.map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value))));
}

/** A short word with a colour, and a mark for those who see no colours. */
export function pill(level, text) {
  const mark = { good: "●", warn: "▲", bad: "■", idle: "○" }[level];
  return h("span", { class: `pill ${level}` }, h("span", { "aria-hidden": "true", class: "mark" }, mark), text);
}

/** A page's heading, which is where focus goes. */
export function heading(text, ...more) {
  return h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, text), more);
}
