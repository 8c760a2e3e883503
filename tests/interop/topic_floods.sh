# What attackers send beside a caller that wants to be served: the figures of docs/operations/security.md. About two minutes.

topic_floods() {
  local pid proxy_port admin_port normal_port victim_port
  read -r proxy_port admin_port normal_port victim_port <<<"$(free_ports 4)"
  floods_config "$proxy_port" "$admin_port" "$normal_port" "$victim_port" >"$work/floods.toml"
  "$TOWPATH" run --config "$work/floods.toml" >>"$work/floods.out" 2>>"$work/floods.log" &
  pid=$!
  started+=("$pid")
  if until_true 15 curl -fsS -o /dev/null "http://127.0.0.1:$admin_port/ready"; then
    absorb floods "$python" tests/interop/floods.py "$proxy_port" "$admin_port" "$normal_port" "$victim_port" "$pid"
  else
    fail floods "towpath did not become ready: $(tail -3 "$work/floods.log" | tr '\n' '|')"
  fi
  # A flood of warnings would be one more.
  check "floods are said once a minute" yes "$([ "$(wc -l <"$work/floods.log")" -lt 60 ] && echo yes)"
  kill -TERM "$pid"
  gone_within 40 "$pid" || kill -KILL "$pid"
  wait "$pid" || true
}

# floods_config PROXY_PORT ADMIN_PORT NORMAL_PORT VICTIM_PORT
floods_config() {
  cat <<CONF
[admin]
listen = "127.0.0.1:$2"

[drain]
timeout = "1s"

[[listeners]]
name   = "outgoing"
kind   = "outgoing"
listen = "127.0.0.1:$1"

[[routes]]
name     = "normal"
hosts    = ["normal"]
backends = [{ service = "normal" }]

[[routes]]
name     = "victim"
hosts    = ["victim"]
backends = [{ service = "victim" }]

[services.normal]
endpoints = ["127.0.0.1:$3"]

[services.victim]
endpoints = ["127.0.0.1:$4"]
CONF
}
