# SIGTERM and `towpath drain` under load: running requests finish, nothing that was accepted is lost, exit 0.

topic_drain() {
  drain_by http1-sigterm drain_load.py "127.0.0.1:$proxy_port" h1.test
  start_towpath
  drain_by grpc-sigterm grpc_load.py "127.0.0.1:$proxy_port"
  start_towpath
  drain_transfer
  start_towpath
  drain_command
  start_towpath
}

# drain_by NAME PROGRAM ARGUMENTS...: the program loads towpath until it can no longer connect.
drain_by() {
  local name=$1 program=$2 load
  shift 2
  timeout 60 "$python" "$here/$program" "$@" >"$work/$name.load" 2>"$work/$name.stderr" &
  load=$!
  started+=("$load")
  sleep 2
  kill -TERM "$towpath_pid"
  ended_well "$name"
  wait "$load" || true
  check_match "drain-$name-loses-nothing" '^[1-9][0-9]{2,} requests, 0 lost$' \
    "$(cat "$work/$name.load" "$work/$name.stderr")"
}

ended_well() {
  local code=0
  if ! gone_within 35 "$towpath_pid"; then
    fail "drain-$1-exit" "still running after 35 s"
    kill -KILL "$towpath_pid"
    wait "$towpath_pid" || true
    return
  fi
  wait "$towpath_pid" || code=$?
  check "drain-$1-exit" 0 "$code"
}

# A download that takes longer than everything else is finished, and readiness is false meanwhile.
drain_transfer() {
  local transfer
  curl -sS -m 60 --limit-rate 8M -H 'host: h1.test' -o "$work/drained" "$proxy/large" 2>"$work/transfer.stderr" &
  transfer=$!
  started+=("$transfer")
  sleep 0.7
  kill -TERM "$towpath_pid"
  sleep 0.3
  check_no_match drain-readiness-is-false '^200$' "$(curl -s -o /dev/null -w '%{http_code}' "$admin/ready" || true)"
  check drain-liveness-holds 200 "$(curl -s -o /dev/null -w '%{http_code}' "$admin/live" || true)"
  check drain-closes-listeners 7 "$(curl -sS -m 5 -H 'host: h1.test' "$proxy/small" >/dev/null 2>&1; echo $?)"
  wait "$transfer" || true
  check drain-finishes-a-running-transfer "$(digest <"$work/root/large")" "$(digest <"$work/drained")"
  ended_well transfer
}

drain_command() {
  run_towpath drain --admin "$admin"
  check drain-command-answers 0 "$status"
  ended_well command
}
