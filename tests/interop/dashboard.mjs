// The dashboard in a real browser (Debian's Chromium): every page, at desktop and phone size, light and dark, with traffic running, one
// service failing and one endpoint down. Prints `ok NAME` and `FAIL NAME: REASON`; leaves screenshots behind.
//
// dashboard.mjs TOWPATH CHROMIUM NODE_MODULES SCREENSHOTS

import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { HOSTILE, Stage, TOKEN, eventually } from "./dashboard/stage.mjs";

const [towpath, executablePath, modules, screenshots] = process.argv.slice(2);
const require = createRequire(resolve(modules, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const PAGES = {
  services: "reviews-v2",
  "services/reviews-v2": "Endpoints",
  "services/ratings": "unhealthy",
  routes: "reviews-android",
  map: "storefront",
  tap: "At most",
  explain: "URL",
  config: "Reloads",
};

let failed = 0;
function check(name, problem) {
  if (problem) {
    failed += 1;
    console.log(`FAIL ${name}: ${String(problem).replaceAll("\n", " | ").slice(0, 900)}`);
  } else {
    console.log(`ok ${name}`);
  }
}

/** Runs one part; what it throws is its failure. */
async function part(name, act) {
  try {
    check(name, await act());
  } catch (error) {
    check(name, error.message);
  }
}

/** A page with everything that its console said. */
async function open(browser, size, scheme, allowed = /$^/) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.said = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !allowed.test(message.text())) page.said.push(message.text());
  });
  page.on("pageerror", (error) => page.said.push(error.message));
  page.elsewhere = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["127.0.0.1", "localhost"].includes(url.hostname) && url.protocol !== "data:") page.elsewhere.push(request.url());
  });
  return page;
}

const main = (page) => page.locator("main").innerText();

async function visit(page, admin, path, expected) {
  await page.goto(`${admin}/#/${path}`);
  await eventually(`${path} shows ${expected}`, async () => (await main(page)).includes(expected), 15);
}

// By evaluate, not by a script element, which the page's own policy forbids.
async function accessibility(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.target.join(" ")).join(", ")}`).join("; ");
}

async function everyPage(browser, admin) {
  for (const size of Object.keys(SIZES)) {
    for (const scheme of ["light", "dark"]) {
      const page = await open(browser, size, scheme);
      for (const [path, expected] of Object.entries(PAGES)) {
        const name = `${path.replaceAll("/", "-")}-${size}-${scheme}`;
        await part(`page-${name}`, async () => {
          await visit(page, admin, path, expected);
          await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          if (wide > 0) return `it is ${wide} pixels wider than the screen`;
          return accessibility(page);
        });
      }
      check(`no-console-error-${size}-${scheme}`, page.said.join("; "));
      check(`nothing-from-elsewhere-${size}-${scheme}`, page.elsewhere.join(" "));
      await page.context().close();
    }
  }
}

async function truth(browser, stage, admin) {
  const page = await open(browser, "desktop", "light");
  const row = async (name) => (await page.locator(`tr[data-key="${name}"]`).innerText()).replaceAll("\n", " ");
  await part("a-failing-service-is-seen-to-fail", async () => {
    await visit(page, admin, "services", "payments");
    const [good, bad] = [await row("reviews-v1"), await row("payments")];
    if (!/100 %/.test(good)) return `reviews-v1: ${good}`;
    if (!/every request fails/.test(bad)) return `payments: ${bad}`;
    const ratings = await row("ratings");
    return /1 of 2 usable/.test(ratings) ? "" : `ratings: ${ratings}`;
  });
  await part("numbers-move-by-themselves", async () => {
    const before = await page.locator(".chart svg").first().innerHTML();
    await eventually("the chart moves", async () => (await page.locator(".chart svg").first().innerHTML()) !== before, 12);
  });
  await part("what-is-focused-stays-so", async () => {
    await page.fill("#filter", "reviews");
    await sleep(5000);
    const focused = await page.evaluate(() => `${document.activeElement.id} ${document.activeElement.value}`);
    const rows = await page.locator("tbody tr").count();
    return focused === "filter reviews" && rows === 3 ? "" : `focus is at ${focused}, ${rows} rows`;
  });
  await part("a-split-shows-what-is-sent", async () => {
    await visit(page, admin, "routes", "reviews-dr");
    const text = (await page.locator('section[data-key="reviews"] tbody tr').first().innerText()).replaceAll("\n", " ");
    const [wanted, sent] = [...text.matchAll(/([\d.]+) %/g)].map((found) => Number(found[1]));
    return wanted === 90 && sent > 75 && sent < 99 ? "" : text;
  });
  await part("the-map-and-its-table-name-callers", async () => {
    await visit(page, admin, "map", "storefront");
    const drawn = await page.locator("svg.map").innerText().catch(() => "") || (await page.locator("svg.map").textContent());
    const all = ["storefront", "mobile-gateway", "unknown, by outgoing", "orders", "payments", "no route"];
    const missing = all.filter((name) => !drawn.includes(name));
    return missing.length === 0 ? "" : `not drawn: ${missing.join(", ")}`;
  });
  await part("explain-answers", async () => {
    await visit(page, admin, "explain", "URL");
    await page.fill("#url", "http://reviews/v2/x");
    await page.fill("#headers", "client: Android");
    await page.press("#url", "Enter");
    await eventually("the answer", async () => (await main(page)).includes("Route reviews-android"), 5);
    await page.screenshot({ path: join(screenshots, "explain-answer.png"), fullPage: true });
    const text = await main(page);
    return /takes precedence/.test(text) && !(await accessibility(page)) ? "" : text + (await accessibility(page));
  });
  check("no-console-error-while-used", page.said.join("; "));
  await page.context().close();
}

async function keyboard(browser, admin) {
  const page = await open(browser, "desktop", "light");
  await part("by-keyboard-alone", async () => {
    await visit(page, admin, "services", "reviews-v2");
    await page.keyboard.press("Tab");
    const first = await page.evaluate(() => document.activeElement.textContent);
    await page.keyboard.press("Enter");
    const there = await page.evaluate(() => document.activeElement.id);
    if (first !== "Skip to the content" || there !== "main") return `the first stop is ${first}, and leads to ${there}`;
    await page.focus('#pages a[href="#/routes"]');
    await page.keyboard.press("Enter");
    await eventually("the page's heading has the focus", async () => page.evaluate(() => document.activeElement.localName === "h1" && document.activeElement.textContent === "Routes"), 5);
    const title = await page.title();
    return title.startsWith("Routes") ? "" : `title: ${title}`;
  });
  await page.context().close();
}

/** Names that a caller chose: shown as text wherever they come up. */
async function hostile(browser, stage, admin) {
  const page = await open(browser, "desktop", "light");
  const record = JSON.stringify({ time: new Date().toISOString(), listener: "outgoing", caller: HOSTILE, method: "GET", host: HOSTILE, path: `/${HOSTILE}`, route: HOSTILE, service: HOSTILE, status: 200, duration_ms: 1.5, attempts: 1 });
  await page.route("**/api/tap?*", (route) => route.fulfill({ status: 200, contentType: "text/event-stream", body: `: dropped 3\ndata: ${record}\n\n` }));
  const poisoned = async (route) => {
    const answer = await route.fetch();
    const text = (await answer.text()).replaceAll('"reviews-v1"', JSON.stringify(HOSTILE)).replaceAll('"storefront"', JSON.stringify(HOSTILE));
    await route.fulfill({ response: answer, body: text });
  };
  for (const path of ["services", "history", "map", "routes"]) await page.route(new RegExp(`/api/${path}(\\?|$)`), poisoned);
  const shown = (what, path, act) => part(`hostile-names-are-text-${what}`, async () => {
    await visit(page, admin, path, act ? "" : HOSTILE);
    await act?.();
    await eventually("the name shows", async () => (await main(page)).includes(HOSTILE), 10);
    await page.screenshot({ path: join(screenshots, `hostile-${what}.png`), fullPage: true });
    const [images, hacked] = await page.evaluate(() => [document.querySelectorAll("main img").length, window.hacked]);
    return images === 0 && !hacked ? "" : `${images} images, hacked: ${hacked}`;
  });
  await shown("on-services", "services");
  await shown("on-a-service", `services/${encodeURIComponent(HOSTILE)}`);
  await shown("on-routes", "routes");
  await shown("on-the-map", "map");
  await shown("in-the-tap", "tap", () => page.click("button[type=submit]"));
  await shown("in-explain", "explain", async () => {
    await page.fill("#url", HOSTILE);
    await page.press("#url", "Enter");
  });
  await page.context().close();
  await realHost(browser, stage, admin);
}

/** What a host may really be called, and what a reload's refusal quotes. */
async function realHost(browser, stage, admin) {
  await part("a-host-that-is-markup-is-refused", async () => {
    const status = await stage.ask(HOSTILE);
    return status === 400 ? "" : `status ${status}`;
  });
  const page = await open(browser, "desktop", "light", /status of 400/);
  await part("a-refused-file-is-quoted-as-text", async () => {
    stage.write({ more: `['${HOSTILE}']\nx = 1\n` });
    stage.reload();
    await visit(page, admin, "config", "rejected");
    await eventually("the reason shows", async () => (await main(page)).includes("<img src=x"), 5);
    const banner = await page.locator("#banner").innerText();
    await page.screenshot({ path: join(screenshots, "config-rejected.png"), fullPage: true });
    const images = await page.evaluate(() => document.querySelectorAll("main img").length);
    if (images > 0 || !/rejected/.test(banner)) return `${images} images; the banner says: ${banner}`;
    const problem = await accessibility(page);
    stage.write();
    stage.reload();
    await eventually("the banner goes", async () => page.locator("#banner").isHidden(), 10);
    return problem;
  });
  await page.context().close();
}

async function tap(browser, stage, admin) {
  const page = await open(browser, "desktop", "light");
  await part("tap-shows-requests", async () => {
    await visit(page, admin, "tap", "At most");
    await page.click("button[type=submit]");
    await eventually("requests come", async () => (await page.locator(".events li").count()) > 2, 15);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.locator(".events summary").first().click();
    await page.screenshot({ path: join(screenshots, "tap-running.png"), fullPage: true });
    return accessibility(page);
  });
  await page.context().close();
}

async function lost(browser, stage, admin) {
  const page = await open(browser, "desktop", "light", /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/);
  const banner = page.locator("#banner");
  await part("a-lost-connection-is-told", async () => {
    await visit(page, admin, "services", "reviews-v2");
    await stage.kill();
    await eventually("the banner", async () => /Connection lost/.test(await banner.innerText()), 10);
    await eventually("the age grows", async () => /What you see is [3-9] s old/.test(await banner.innerText()), 15);
    await page.screenshot({ path: join(screenshots, "lost.png") });
    const spoken = await page.locator("[role=status]#spoken").textContent();
    if (spoken !== "Connection lost.") return `screen readers hear: ${spoken}`;
    const text = await main(page);
    return text.includes("reviews-v2") ? accessibility(page) : "what was known is gone";
  });
  await part("a-connection-that-comes-back-is-used-by-itself", async () => {
    await stage.start();
    await eventually("the banner goes", async () => banner.isHidden(), 15);
    await eventually("it shows the new node", async () => /reviews-v2/.test(await main(page)) && /up \d+ s/.test(await page.locator("#node").innerText()), 10);
  });
  check("no-other-console-error-while-lost", page.said.join("; "));
  await page.context().close();
}

async function hiddenPage(browser, admin) {
  const page = await open(browser, "desktop", "light");
  await part("a-hidden-page-asks-nothing", async () => {
    await visit(page, admin, "services", "reviews-v2");
    const hide = (hidden) => page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await hide(true);
    await sleep(500);
    let asked = 0;
    page.on("request", () => (asked += 1));
    await sleep(5000);
    if (asked > 0) return `${asked} requests while hidden`;
    await hide(false);
    await eventually("it asks again", async () => asked > 0, 3);
  });
  await page.context().close();
}

async function token(browser, stage, admin) {
  await stage.kill();
  stage.write({ secured: true });
  await stage.start();
  const page = await open(browser, "phone", "light", /status of 401/);
  await part("a-token-is-asked-for-and-stays-in-the-tab", async () => {
    await visit(page, admin, "services", "wants to know who asks");
    const problem = await accessibility(page);
    if (problem) return problem;
    await page.screenshot({ path: join(screenshots, "token.png"), fullPage: true });
    await page.fill("#token", "wrong-0123456789");
    await page.press("#token", "Enter");
    await eventually("it says that it is wrong", async () => /does not take this token/.test(await main(page)), 5);
    await page.fill("#token", TOKEN);
    await page.press("#token", "Enter");
    await eventually("the node shows", async () => /reviews-v2/.test(await main(page)), 5);
    const kept = await page.evaluate(() => [localStorage.length, document.cookie, location.href]);
    return kept[0] === 0 && kept[1] === "" && !kept[2].includes(TOKEN) ? "" : `kept: ${kept}`;
  });
  check("no-other-console-error-with-a-token", page.said.join("; "));
  await page.context().close();
}

mkdirSync(screenshots, { recursive: true });
const stage = await Stage.set(towpath);
await stage.start();
stage.play();
const browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox"] });
try {
  const admin = `http://127.0.0.1:${stage.admin}`;
  // So that charts have something to show.
  await sleep(20000);
  await everyPage(browser, admin);
  await truth(browser, stage, admin);
  await keyboard(browser, admin);
  await tap(browser, stage, admin);
  await hostile(browser, stage, admin);
  await hiddenPage(browser, admin);
  await lost(browser, stage, admin);
  await token(browser, stage, admin);
} finally {
  await browser.close();
  stage.clear();
}
process.exit(failed === 0 ? 0 : 1);
