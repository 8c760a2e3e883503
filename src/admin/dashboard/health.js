// What numbers mean: how bad a thing is, in a word and a colour.

/** How a service is, from `/api/services` and its last minute. */
export function ofService(service, minute) {
  const total = service.endpoint_count;
  if (service.state === "waiting") return ["idle", "waiting for its first answer"];
  if (total === 0) return ["bad", "no endpoints"];
  if (service.usable === 0) return ["bad", "no usable endpoint"];
  if (service.panic) return ["bad", "too few usable: all are used"];
  if (service.breaker.open_since) return ["bad", "refuses requests: at its limit"];
  const failing = minute?.requests ? minute.failures / minute.requests : 0;
  if (failing >= 0.5) return ["bad", failing === 1 ? "every request fails" : "most requests fail"];
  if (service.passed_over) return ["warn", "passed over"];
  if (service.usable < total) return ["warn", `${service.usable} of ${total} usable`];
  if (service.state === "failing") return ["warn", "discovery fails"];
  if (failing >= 0.05) return ["warn", "requests fail"];
  return ["good", "ok"];
}

/** How an endpoint is. */
export function ofEndpoint(endpoint) {
  const level = { healthy: "good", warming: "good", spare: "idle", ejected: "bad", unhealthy: "bad" }[endpoint.state] ?? "idle";
  return [level, endpoint.probing ? "ejected, being tried" : endpoint.state];
}

/** How a success rate is. */
export function ofSuccess(requests, failures) {
  if (!requests) return "idle";
  const part = (100 * failures) / requests;
  return part >= 5 ? "bad" : part >= 0.1 ? "warn" : "good";
}

export const ofStatus = (status) => (status >= 500 ? "bad" : status >= 400 ? "warn" : "good");
