# Callees that fail, and what callers see: the figures of docs/operations/resilience.md. bench/tools' `storm` is the endpoints and
# the callers; each scenario has a towpath of its own, which knows nothing yet. About three minutes.

topic_resilience() {
  local tools=${CARGO_TARGET_DIR:-target}/bench-tools
  if [ -z "${STORM:-}" ]; then
    cargo build --release --locked --manifest-path bench/tools/Cargo.toml --target-dir "$tools" --bin storm
    STORM=$tools/release/storm
  fi
  local scenario
  for scenario in race failing hole outage overload; do resilience "$scenario"; done
}

# resilience SCENARIO: within a network of its own where there is an address that nobody answers.
resilience() {
  local scenario=$1 pid proxy_port admin_port endpoint_port
  read -r proxy_port admin_port endpoint_port <<<"$(free_ports 3)"
  inside=()
  if [ "$scenario" = hole ]; then dark_network || return 0; fi
  resilience_config "$scenario" "$proxy_port" "$admin_port" "$endpoint_port" >"$work/$scenario.toml"
  "${inside[@]}" "$TOWPATH" run --config "$work/$scenario.toml" >>"$work/$scenario.out" 2>>"$work/$scenario.log" &
  pid=$!
  started+=("$pid")
  if until_true 15 "${inside[@]}" curl -fsS -o /dev/null "http://127.0.0.1:$admin_port/ready"; then
    absorb "$scenario" "${inside[@]}" "$STORM" "$scenario" "127.0.0.1:$proxy_port" "127.0.0.1:$admin_port" "$endpoint_port"
  else
    fail "$scenario" "towpath did not become ready: $(tail -3 "$work/$scenario.log" | tr '\n' '|')"
  fi
  kill -TERM "$pid"
  gone_within 40 "$pid" || kill -KILL "$pid"
  wait "$pid" || true
}

# A network namespace in which whatever goes to 10.99.0.2 is lost: it is put on a wire whose other end has no such address, and
# the kernel need not ask who has it. Everything in `inside` runs there.
dark_network() {
  local holder
  unshare --net sleep 600 2>"$work/unshare.stderr" &
  holder=$!
  started+=("$holder")
  inside=(nsenter --target "$holder" --net)
  if ! until_true 5 is_elsewhere "$holder" || ! "${inside[@]}" sh -ec '
      ip link set lo up
      ip link add dark type veth peer name end
      ip address add 10.99.0.1/24 dev dark
      ip link set dark up
      ip link set end up
      ip neighbour add 10.99.0.2 dev dark lladdr "$(ip -br link show end | tr -s " " | cut -d" " -f3)" nud permanent' \
      2>>"$work/unshare.stderr"; then
    echo "   hole: skipped, no network namespace can be made ($(tail -1 "$work/unshare.stderr"))"
    return 1
  fi
}

is_elsewhere() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# resilience_config SCENARIO PROXY_PORT ADMIN_PORT ENDPOINT_PORT
resilience_config() {
  cat <<CONF
[node]
name = "interop-resilience"
workers = 2
[admin]
listen = "127.0.0.1:$3"
[drain]
timeout = "1s"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:$2"
CONF
  local retry='retry = { on = ["connect-failure", "reset", "5xx"] }'
  case $1 in
    race) resilience_service race "$(endpoints "$4" 1 10)" ;;
    failing)
      resilience_service failing "$(endpoints "$4" 1 10)"
      resilience_service failing-retried "$(endpoints "$4" 1 10)" "$retry"
      ;;
    hole) resilience_service hole "$(endpoints "$4" 1 9), \"10.99.0.2:$4\"" '' 'locality = { prefer = "none" }' ;;
    outage)
      resilience_service refusing "$(endpoints "$4" 1 4)" "$retry"
      resilience_service erring "$(endpoints "$4" 5 8)" "$retry"
      ;;
    overload)
      resilience_service overload "$(endpoints "$4" 1 4)" '' \
        'breaker = { max_requests = 16, max_pending = 8, pending_timeout = "20ms" }'
      ;;
  esac
}

# endpoints PORT FIRST LAST
endpoints() { seq -s ', ' -f "\"127.0.1.%g:$1\"" "$2" "$3"; }

# resilience_service NAME ENDPOINTS [KEYS_OF_THE_ROUTE [KEYS_OF_THE_SERVICE]]
resilience_service() {
  printf '[[routes]]\nname = "%s"\nhosts = ["%s"]\nbackends = [{ service = "%s" }]\n%s\n' "$1" "$1" "$1" "${3:-}"
  printf '[services.%s]\nprotocol = "http1"\nendpoints = [%s]\n%s\n' "$1" "$2" "${4:-}"
}
