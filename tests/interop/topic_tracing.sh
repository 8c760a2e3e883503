# Requests through two daemons, told to an OTLP receiver by OpenTelemetry's Python definitions: one daemon over gRPC, the other over
# HTTP. What it has must be one tree.

topic_tracing() {
  local a b a_admin b_admin origin grpc_port http_port trace
  read -r a b a_admin b_admin origin grpc_port http_port <<<"$(free_ports 7)"
  tracing_origin || return 0
  "$python" "$here/otlp_receiver.py" serve "$grpc_port" "$http_port" "$work/spans" 2>"$work/otlp.log" &
  started+=("$!")
  until_true 15 port_open "$grpc_port" && until_true 15 port_open "$http_port" ||
    { fail tracing "no receiver: $(tail -2 "$work/otlp.log")"; return 0; }
  tracing_node a "$a" "$a_admin" "127.0.0.1:$b" "http://127.0.0.1:$grpc_port" || return 0
  tracing_node b "$b" "$b_admin" "127.0.0.1:$origin" "http://127.0.0.1:$http_port/v1/traces" || return 0

  trace=4bf92f3577b34da6a3ce929d0e0e4736
  curl -sS -o "$work/traced" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" "http://127.0.0.1:$a/small?sig=secret"
  check "tracing: a request through two nodes is one tree" "below 00f067aa0ba902b7:
a SERVER GET /small 200 UNSET by grpc
  a CLIENT GET 200 UNSET by grpc
    b SERVER GET /small 200 UNSET by http
      b CLIENT GET 200 UNSET by http" "$(tracing_tree "$trace" 4)"
  check_no_match "tracing: no secret is told" 'secret' "$(cat "$work/spans")"
  check_match "tracing: the collector works" '"state":"working"' "$(curl -sS "http://127.0.0.1:$a_admin/api/status")"

  trace=11111111111111112222222222222222
  curl -sS -o "$work/traced" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" "http://127.0.0.1:$a/status/503"
  check "tracing: a failure is told at each hop" "below 00f067aa0ba902b7:
a SERVER GET 503 ERROR by grpc
  a CLIENT GET 503 ERROR by grpc
    b SERVER GET 503 ERROR by http
      b CLIENT GET 503 ERROR by http" "$(tracing_tree "$trace" 4)"

  # What waits is sent before the end.
  trace=33333333333333334444444444444444
  curl -sS -o "$work/traced" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" "http://127.0.0.1:$a/small"
  kill -TERM "$tracing_a" "$tracing_b"
  gone_within 10 "$tracing_a" && gone_within 10 "$tracing_b" || fail tracing "a node did not end"
  check "tracing: what waits at the end is sent" 5 "$(tracing_tree "$trace" 4 | wc -l)"
  kill -TERM "$tracing_nginx"
}

# tracing_tree TRACE SPANS: waits for so many.
tracing_tree() {
  until_true 10 tracing_has "$1" "$2" || true
  "$python" "$here/otlp_receiver.py" tree "$work/spans" "$1" 2>&1
}

tracing_has() { [ "$(grep -c "$1" "$work/spans")" -ge "$2" ]; }

tracing_origin() {
  mkdir -p "$work/tracing-root"
  echo small >"$work/tracing-root/small"
  cat >"$work/tracing-nginx.conf" <<CONF
daemon off;
pid $work/tracing-nginx.pid;
events {}
http {
  access_log off;
  server { listen 127.0.0.1:$origin; root $work/tracing-root; location /status/503 { return 503; } }
}
CONF
  nginx -c "$work/tracing-nginx.conf" -p "$work" -e "$work/nginx.log" &
  tracing_nginx=$!
  started+=("$tracing_nginx")
  until_true 10 port_open "$origin" || { fail tracing "no origin: $(tail -2 "$work/nginx.log")"; return 1; }
}

# tracing_node NAME PORT ADMIN_PORT ENDPOINT COLLECTOR: leaves its pid in tracing_NAME.
tracing_node() {
  cat >"$work/tracing-$1.toml" <<CONF
[node]
name = "$1"
workers = 1
[admin]
listen = "127.0.0.1:$3"
[tracing]
otlp = "$5"
sample = 0
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:$2"
[[routes]]
name = "small"
hosts = ["*"]
match = [{ path = "/small" }]
backends = [{ service = "next" }]
[[routes]]
name = "rest"
hosts = ["*"]
backends = [{ service = "next" }]
[services.next]
endpoints = ["$4"]
CONF
  "$TOWPATH" run --config "$work/tracing-$1.toml" >>"$work/tracing-$1.out" 2>>"$work/tracing-$1.log" &
  printf -v "tracing_$1" %s $!
  started+=($!)
  until_true 15 curl -fsS -o /dev/null "http://127.0.0.1:$3/ready" && return
  fail "tracing: node $1" "not ready: $(tail -3 "$work/tracing-$1.log" | tr '\n' '|')"
  return 1
}
