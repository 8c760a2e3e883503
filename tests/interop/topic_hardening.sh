# The daemon with no more rights than deploy/ leaves it: a user of its own, no capability, a root that is read-only, of /proc only
# processes, and deploy/docker/seccomp.json, under which a call that the profile forgets ends the daemon. And the systemd unit, as
# systemd-analyze judges it.

topic_hardening() {
  "$here/install" setpriv:util-linux unshare:util-linux openssl:openssl systemd-analyze:systemd
  /usr/bin/python3 -c 'import seccomp' 2>/dev/null || "$here/install" seccomp-is-no-command:python3-seccomp
  hardening_unit
  if ! unshare --mount sh -c 'mount -o remount,bind,ro / && mount -t proc -o subset=pid proc /proc' 2>"$work/hard.kernel"; then
    echo "  $(tail -1 "$work/hard.kernel"): what the daemon can do with fewer rights is not proved here"
    return
  fi
  read -r hard_port hard_tls_port hard_low_port <<<"$(free_ports 2) $(free_low_port)"
  hardening_files
  start_hardened
  hardening_rights
  hardening_traffic
  hardening_admin
  hardening_stop
  hardening_low_port
}

hardening_unit() {
  local unit=$PWD/deploy/systemd/towpath.service output
  output=$(systemd-analyze security --offline=yes --threshold=20 "$unit" 2>&1 | tail -1) || true
  echo "  $output"
  check systemd-exposure-is-below-2 0 "$(systemd-analyze security --offline=yes --threshold=20 "$unit" >/dev/null 2>&1; echo $?)"
  absorb unit-calls /usr/bin/python3 "$here/unit_calls.py" "$unit" deploy/docker/seccomp.json
}

free_low_port() {
  local port
  for port in 81 82 83 84 85; do port_open "$port" || { echo "$port"; return; }; done
}

# Everything that the daemon reads is its own or everybody's; only run/ can be written.
hardening_files() {
  hard=$work/hard
  mkdir -p "$hard/run"
  cp "$TOWPATH" "$hard/towpath"
  cp "$here/under_seccomp.py" deploy/docker/seccomp.json "$hard/"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$hard/node.key" -out "$hard/node.crt" 2>"$work/hard.openssl"
  echo "$(head -c 24 /dev/urandom | base64 -w0)" >"$hard/control"
  echo "127.0.0.1:$origin_port" >"$hard/endpoints"
  write_hard_config "127.0.0.1:$hard_port" >"$hard/towpath.toml"
  chown 65534:65534 "$hard/run" "$hard/node.key" "$hard/control"
  chmod 600 "$hard/node.key" "$hard/control"
  chmod a+rX "$hard" "$hard"/{towpath,towpath.toml,under_seccomp.py,seccomp.json,node.crt,endpoints}
}

# write_hard_config ADDRESS
write_hard_config() {
  cat <<CONF
[admin]
listen = "unix:run/admin.sock"
control_token = "control"
[access_log]
path = "run/access.log"
[[callers]]
name = "nobody"
uid = 65534
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "$1"
[[listeners]]
name = "socket"
kind = "outgoing"
listen = "unix:run/out.sock"
[[listeners]]
name = "incoming"
kind = "incoming"
listen = "127.0.0.1:$hard_tls_port"
tls = { cert = "node.crt", key = "node.key" }
[[routes]]
name = "file"
listeners = ["outgoing", "socket", "incoming"]
hosts = ["file.test"]
backends = [{ service = "file" }]
[[routes]]
name = "dns"
hosts = ["*"]
backends = [{ dns = "{host}" }]
[services.file]
file = "endpoints"
CONF
}

# run_hardened CAPABILITIES COMMAND...: like deploy/, with what the kernel of this machine offers without a container.
run_hardened() {
  local capabilities=$1
  shift
  # shellcheck disable=SC2016
  exec unshare --mount --propagation private sh -c '
    set -e
    hard=$1 capabilities=$2
    shift 2
    mount --bind "$hard/run" "$hard/run"
    mount -o remount,bind,ro /
    mount -t proc -o subset=pid,nosuid,nodev,noexec proc /proc
    cd "$hard"
    umask 077
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
      --inh-caps="-all$capabilities" --bounding-set="-all$capabilities" --ambient-caps="-all$capabilities" \
      /usr/bin/python3 under_seccomp.py seccomp.json "$@"' sh "$hard" "$capabilities" "$@"
}

start_hardened() {
  (run_hardened "" "$hard/towpath" run --config "$hard/towpath.toml") >"$work/hard.out" 2>"$work/hard.log" &
  hard_pid=$!
  started+=("$hard_pid")
  until_true 15 hard_admin /ready || true
  check hardened-becomes-ready ready "$(hard_admin /ready)"
}

# hard_admin PATH: with the token.
hard_admin() {
  curl -fsS --max-time 10 --unix-socket "$hard/run/admin.sock" -H "authorization: Bearer $(cat "$hard/control")" "http://admin$1"
}

hardening_rights() {
  local status
  status=$(tr '\t' ' ' <"/proc/$hard_pid/status")
  check_match hardened-runs-as-nobody '^Uid: 65534 65534 65534 65534$' "$status"
  check_match hardened-has-no-capability '^CapEff: 0+$' "$status"
  check_match hardened-can-get-no-capability '^CapBnd: 0+$' "$status"
  check_match hardened-gains-nothing-by-exec '^NoNewPrivs: 1$' "$status"
  check_match hardened-has-a-seccomp-filter '^Seccomp: 2$' "$status"
  check_match hardened-root-is-read-only '^[0-9]+ [0-9]+ [0-9:]+ / / ro[, ]' "$(cat "/proc/$hard_pid/mountinfo")"
}

hardening_traffic() {
  local hello='hello from the origin'
  check hardened-http1 "$hello" "$(c -H 'host: file.test' "http://127.0.0.1:$hard_port/small")"
  check hardened-http2 "$hello" "$(c --http2-prior-knowledge -H 'host: file.test' "http://127.0.0.1:$hard_port/small")"
  check hardened-unix-socket "$hello" "$(c --unix-socket "$hard/run/out.sock" http://file.test/small)"
  check hardened-tls "$hello" "$(c -k --http2 -H 'host: file.test' "https://127.0.0.1:$hard_tls_port/small")"
  check hardened-dns "$hello" "$(c -H "host: localhost:$origin_port" "http://127.0.0.1:$hard_port/small")"
  check hardened-large-body "$(digest <"$work/root/large")" "$(c -H 'host: file.test' "http://127.0.0.1:$hard_port/large" | digest)"
  timeout 60 h2load --h1 -D 2 -c 16 -H ':authority: file.test' "http://127.0.0.1:$hard_port/small" >"$work/hard.load" 2>&1 || true
  check_match hardened-under-load ', 0 failed, 0 errored, 0 timeout' "$(grep '^requests:' "$work/hard.load")"
  # sock_diag, under the filter and without a right.
  setpriv --reuid 65534 --regid 65534 --clear-groups curl -sS -o "$work/hard.answer" --max-time 10 -H 'host: file.test' \
    "http://127.0.0.1:$hard_port/small" 2>"$work/hard.caller" || true
  until_true 5 grep -q '"caller":"nobody"' "$hard/run/access.log" || true
  check_match hardened-knows-a-caller-by-its-user '"caller":"nobody"' "$(tail -1 "$hard/run/access.log")"
  echo "127.0.0.1:$other_port" >"$hard/endpoints"
  until_true 5 hard_second || true
  check hardened-sees-a-changed-file second "$(hard_origin)"
}

hard_origin() { c -i -H 'host: file.test' "http://127.0.0.1:$hard_port/small" | tr -d '\r' | awk '$1 == "x-origin:" { print $2 }'; }
hard_second() { [ "$(hard_origin)" = second ]; }

hardening_admin() {
  local answer
  check admin-socket-mode 600 "$(stat -c %a "$hard/run/admin.sock")"
  answer=$(setpriv --reuid 1 --clear-groups curl -sS --unix-socket "$hard/run/admin.sock" http://admin/ready 2>&1) || true
  check_no_match admin-socket-is-closed-to-others '^ready' "$answer"
  run_towpath reload --admin "unix:$hard/run/admin.sock" --admin-token-file "$hard/control"
  check_match reload-over-the-admin-socket 'generation 1 stays in force' "$output"
  run_towpath reload --admin "unix:$hard/run/admin.sock"
  check reload-without-the-token-fails 1 "$status"
}

hardening_stop() {
  local code=0
  kill -TERM "$hard_pid"
  gone_within 40 "$hard_pid" || kill -KILL "$hard_pid"
  wait "$hard_pid" || code=$?
  check hardened-drains 0 "$code"
}

# A port under 1024 takes the one capability that the unit leaves, and nothing else does.
hardening_low_port() {
  local code=0 low
  write_hard_config "127.0.0.1:$hard_low_port" >"$hard/towpath.toml"
  (run_hardened "" "$hard/towpath" run --config "$hard/towpath.toml") >"$work/low.out" 2>&1 || code=$?
  check low-port-without-the-capability-exits 2 "$code"
  check_match low-port-without-the-capability-says-why 'right this process lacks' "$(cat "$work/low.out")"
  (run_hardened ,+net_bind_service "$hard/towpath" run --config "$hard/towpath.toml") >"$work/low.out" 2>&1 &
  low=$!
  started+=("$low")
  until_true 15 hard_admin /ready || true
  check low-port-with-the-capability second \
    "$(c -i -H 'host: file.test' "http://127.0.0.1:$hard_low_port/small" | tr -d '\r' | awk '$1 == "x-origin:" { print $2 }')"
  kill -TERM "$low"
  gone_within 40 "$low" || kill -KILL "$low"
}
