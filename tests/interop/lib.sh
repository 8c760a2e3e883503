# Shared by the topics: results, processes, waiting. Sourced by `run`, which owns the set -e and the working directory.

work=$(mktemp -d)
started=()   # pids of ours; nothing else is ever ended
passed=0
failed=0

# Runs on every way out. A failure leaves the logs behind and says where.
finish() {
  local status=$? pid
  trap - EXIT INT TERM
  for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  sleep 0.3
  for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ "$status" -eq 0 ]; then
    rm -rf "$work"
  else
    echo "logs and configurations are in $work"
    show_log
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

ok() { passed=$((passed + 1)); echo "ok $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1: $2"; }

# check NAME EXPECTED ACTUAL
check() {
  if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "expected '$2', got '$(shorten "$3")'"; fi
}

# check_match NAME EXTENDED_REGEX TEXT
check_match() {
  if grep -qE -- "$2" <<<"$3"; then ok "$1"; else fail "$1" "no match of /$2/ in '$(shorten "$3")'"; fi
}

# check_no_match NAME EXTENDED_REGEX TEXT
check_no_match() {
  if grep -qE -- "$2" <<<"$3"; then fail "$1" "/$2/ matches '$(shorten "$3")'"; else ok "$1"; fi
}

shorten() { tr '\n' '|' <<<"$1" | head -c 600; }

# Counts the `ok` and `FAIL` lines of a program that does checks of its own, and shows its figures (lines that begin with blanks): absorb NAME COMMAND...
absorb() {
  local name=$1 output status=0
  shift
  output=$(timeout 180 "$@" 2>"$work/$name.stderr") || status=$?
  echo "$output" | grep -E '^(ok|FAIL|  ) ' || true
  passed=$((passed + $(grep -c '^ok ' <<<"$output" || true)))
  failed=$((failed + $(grep -c '^FAIL ' <<<"$output" || true)))
  if ! grep -q '^ok ' <<<"$output" || { [ "$status" -ne 0 ] && ! grep -q '^FAIL ' <<<"$output"; }; then
    fail "$name" "exit $status: $(tail -3 "$work/$name.stderr" | tr '\n' '|')"
  fi
}

report() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

# until_true SECONDS COMMAND...: polls; fails when the time is over.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# gone_within SECONDS PID
gone_within() {
  local end=$((SECONDS + $1))
  while kill -0 "$2" 2>/dev/null; do
    # A child that has ended stays visible as a zombie until it is waited for.
    [ "$(ps -o stat= -p "$2" | cut -c1)" = Z ] && return 0
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# Ports that are free now, all at once so that no two are the same: free_ports COUNT
free_ports() {
  "$python" -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in held])' "$1"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
digest() { sha256sum | cut -d' ' -f1; }

build_towpath() {
  if [ -z "${TOWPATH:-}" ]; then
    echo "building towpath"
    cargo build --release --locked --bin towpath
    TOWPATH=${CARGO_TARGET_DIR:-target}/release/towpath
  fi
  [ -x "$TOWPATH" ] || { echo "no towpath binary at $TOWPATH" >&2; exit 1; }
}

# A stand-in may take the place of the daemon while these scripts are worked on: STAND_IN=COMMAND CONFIG.
start_towpath() {
  write_config "$work/towpath.toml" "${1:-before}"
  "${STAND_IN:-$TOWPATH}" run --config "$work/towpath.toml" >>"$work/towpath.out" 2>>"$work/towpath.log" &
  towpath_pid=$!
  started+=("$towpath_pid")
  if ! until_true 15 curl -fsS -o "$work/ready" "$admin/ready"; then
    echo "towpath did not become ready" >&2
    exit 1
  fi
}

stop_towpath() {
  kill -0 "$towpath_pid" 2>/dev/null || return 0
  kill -TERM "$towpath_pid"
  gone_within 40 "$towpath_pid" || kill -KILL "$towpath_pid"
  wait "$towpath_pid" || true
}

show_log() { [ -e "$work/towpath.log" ] && tail -15 "$work/towpath.log" || true; }

# The value of a metric without labels: metric NAME
metric() { curl -fsS "$admin/metrics" | awk -v name="towpath_$1" '$1 == name { print $2 + 0 }'; }
