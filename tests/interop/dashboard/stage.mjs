// What the dashboard is looked at with: endpoints that answer, one that fails, one that is not there; callers; and the daemon.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const TOKEN = "dashboard-0123456789abcdef";
/** What a hostile caller would put into names. */
export const HOSTILE = '<img src=x onerror="window.hacked=1">';

const sleep = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

/** Asks until there is an answer that is true; fails after some seconds. */
export async function eventually(what, ask, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask().catch(() => false);
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(100);
  }
}

function listening(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

/** An endpoint: `answer` says status and milliseconds of the request with this number. */
function endpoint(answer) {
  let number = 0;
  return listening(http.createServer((request, response) => {
    const [status, wait] = answer(number++);
    request.resume();
    setTimeout(() => response.writeHead(status, { "content-type": "text/plain" }).end(`status ${status}\n`), wait);
  }));
}

async function freePorts(count) {
  const servers = [];
  for (let index = 0; index < count; index += 1) servers.push(net.createServer());
  const ports = [];
  for (const server of servers) ports.push(await listening(server));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const latency = (usual, rare) => (number) => (number % 20 === 7 ? rare : usual);

export class Stage {
  static async set(towpath) {
    const stage = new Stage();
    stage.towpath = towpath;
    stage.directory = mkdtempSync(join(tmpdir(), "dashboard-"));
    stage.config = join(stage.directory, "towpath.toml");
    [stage.proxy, stage.incoming, stage.admin, stage.dead] = await freePorts(4);
    const slow = latency(18, 240);
    const ports = {
      v1a: await endpoint((number) => [200, latency(3, 30)(number)]),
      v1b: await endpoint((number) => [200, latency(4, 25)(number)]),
      v2: await endpoint((number) => [number % 9 === 0 ? 500 : 200, latency(7, 60)(number)]),
      ratings: await endpoint((number) => [200, latency(2, 9)(number)]),
      orders: await endpoint((number) => [number % 400 === 3 ? 503 : 200, slow(number)]),
      host: await endpoint(() => [200, 1]),
    };
    stage.ports = ports;
    writeFileSync(join(stage.directory, "token"), TOKEN);
    stage.write();
    return stage;
  }

  /** The configuration; `more` is appended, `secured` asks for a token. */
  write({ more = "", secured = false } = {}) {
    const { ports } = this;
    const at = (...numbers) => numbers.map((port) => `"127.0.0.1:${port}"`).join(", ");
    writeFileSync(this.config, `
[node]
name = "node-7"
zone = "eu-1a"
workers = 2
[admin]
listen = "127.0.0.1:${this.admin}"
${secured ? 'read_token = "token"' : ""}
[drain]
timeout = "1s"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:${this.proxy}"
[[listeners]]
name = "incoming"
kind = "incoming"
listen = "127.0.0.1:${this.incoming}"
[[callers]]
name = "storefront"
address = "127.0.0.2/32"
[[callers]]
name = "mobile-gateway"
address = "127.0.0.3/32"
[[routes]]
name = "reviews-android"
hosts = ["reviews"]
match = [{ path_prefix = "/v2", methods = ["GET"], headers = { client = "Android" } }]
backends = [{ service = "reviews-v2" }]
[[routes]]
name = "reviews"
hosts = ["reviews", "*.reviews.internal"]
backends = [{ service = "reviews-v1", weight = 90 }, { service = "reviews-v2", weight = 10 }]
failover = ["reviews-dr"]
timeout = "2s"
retry = { on = ["connect-failure", "reset"], attempts = 3 }
[[routes]]
name = "ratings"
hosts = ["ratings"]
backends = [{ service = "ratings" }]
[[routes]]
name = "orders"
hosts = ["orders"]
listeners = ["outgoing", "incoming"]
backends = [{ service = "orders" }]
[[routes]]
name = "payments"
hosts = ["payments"]
backends = [{ service = "payments" }]
[[routes]]
name = "hosts"
hosts = ["localhost"]
backends = [{ dns = "{host}" }]
[services.reviews-v1]
endpoints = [${at(ports.v1a)}, { address = "127.0.0.1:${ports.v1b}", weight = 2, zone = "eu-1b" }]
balancer = "peak-ewma"
[services.reviews-v2]
endpoints = [${at(ports.v2)}]
[services.reviews-dr]
endpoints = [${at(ports.v1a)}]
[services.ratings]
endpoints = [${at(ports.ratings, this.dead)}]
health_check = { http = "/", interval = "1s", timeout = "500ms", healthy = 2, unhealthy = 2 }
[services.orders]
endpoints = [${at(ports.orders)}]
breaker = { max_connections = 32, max_requests = 64, max_pending = 32 }
[services.payments]
endpoints = [${at(this.dead)}]
ejection = { consecutive_failures = 3, max_percent = 100 }
${more}`);
  }

  async start() {
    const log = openSync(join(this.directory, "towpath.log"), "a");
    this.daemon = spawn(this.towpath, ["run", "--config", this.config], { stdio: ["ignore", log, log] });
    await eventually("the daemon is ready", async () => (await fetch(`http://127.0.0.1:${this.admin}/ready`)).ok);
  }

  /** Ends the daemon at once, as a crash would. */
  async kill() {
    const ended = new Promise((resolve) => this.daemon.once("exit", resolve));
    this.daemon.kill("SIGKILL");
    await ended;
  }

  reload() {
    this.daemon.kill("SIGHUP");
  }

  /** One request through the daemon; never fails. */
  ask(host, path = "/", { from = "127.0.0.1", port = this.proxy, headers = {} } = {}) {
    return new Promise((resolve) => {
      const options = { port, host: "127.0.0.1", localAddress: from, path, headers: { host, ...headers }, agent: this.agent };
      const request = http.get(options, (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode));
      });
      request.on("error", () => resolve(0));
    });
  }

  /** Traffic of several callers until {@link Stage.clear}. */
  play() {
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 40 });
    const wave = () => 1 + 0.5 * Math.sin(Date.now() / 20000);
    const every = (millis, act) => this.timers.push(setInterval(() => {
      if (Math.random() < wave() / 1.5) act();
    }, millis));
    every(40, () => this.ask("reviews", "/list", { from: "127.0.0.2" }));
    every(90, () => this.ask("reviews", "/v2/list", { from: "127.0.0.3", headers: { client: "Android" } }));
    every(120, () => this.ask("ratings", "/", { from: "127.0.0.2" }));
    every(150, () => this.ask("orders", "/o", { from: "127.0.0.3" }));
    every(300, () => this.ask("orders", "/in", { port: this.incoming }));
    every(700, () => this.ask("payments", "/pay", { from: "127.0.0.2" }));
    every(900, () => this.ask("nobody"));
    every(1000, () => this.ask(`localhost:${this.ports.host}`));
  }

  timers = [];

  clear() {
    this.timers.forEach(clearInterval);
    this.daemon?.kill("SIGTERM");
  }
}
