# h2load, which counts every request that did not succeed.

topic_load() {
  h2load_check load-http1 20000 --h1 -c 32 -H ':authority: h1.test'
  # h2load counts a status only when a reason phrase follows it: an answer from HTTP/2 needs one made up.
  h2load_check load-http1-from-http2 10000 --h1 -c 32 -H ':authority: h2.test'
  h2load_check load-http2-to-http2 20000 -c 16 -m 32 -H ':authority: h2.test'
  h2load_check load-http2-to-http1 20000 -c 16 -m 8 -H ':authority: h1.test'
  # The origin allows 64 streams per connection: more at once need further connections.
  h2load_check load-http2-over-max-streams 20000 -c 4 -m 200 -H ':authority: h2.test'
  h2load_check load-one-request-per-connection 500 --h1 -c 500 -H ':authority: h1.test'
}

# h2load_check NAME REQUESTS ARGUMENTS...
h2load_check() {
  local name=$1 requests=$2 output
  shift 2
  output=$(timeout 120 h2load -n "$requests" "$@" "$proxy/small" 2>&1) || true
  check "$name" "requests: $requests total, $requests started, $requests done, $requests succeeded, 0 failed, \
0 errored, 0 timeout status codes: $requests 2xx, 0 3xx, 0 4xx, 0 5xx" \
    "$(grep -E '^(requests|status codes):' <<<"$output" | tr '\n' ' ' | sed 's/ $//')"
}
