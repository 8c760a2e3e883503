# The command line, beside a running daemon.

topic_command() {
  command_check
  command_explain
  run_towpath status --admin "$admin"
  check status-exit 0 "$status"
  check_match status-names-the-generation '[Gg]eneration' "$output"
  run_towpath schema
  check schema-is-json object "$(from_json '["type"]')"
  run_towpath completions bash
  check_match completions 'towpath' "$output"
  run_towpath no-such-command
  check bad-usage-exit 2 "$status"
  run_towpath run --config "$work/absent.toml"
  check run-without-a-file-exit 2 "$status"
}

# Sets `output` (both streams) and `status`.
run_towpath() {
  status=0
  output=$(timeout 20 "$TOWPATH" "$@" 2>&1) || status=$?
}

# A part of `output`, which must be JSON: from_json PYTHON_SUBSCRIPT
from_json() { "$python" -c "import json, sys; print(json.load(sys.stdin)$1)" <<<"$output" 2>&1 | tail -1; }

command_check() {
  local problems
  run_towpath check "$work/towpath.toml"
  check check-good-exit 0 "$status"
  write_config "$work/broken.toml" broken
  run_towpath check "$work/broken.toml"
  check check-broken-exit 2 "$status"
  check_match check-names-the-place "broken\.toml:[0-9]+:[0-9]+: .*hostz" "$output"
  check_match check-names-the-nearest-key 'hosts' "$output"
  printf '[[listeners]]\nname = 1\n[oops]\n' >"$work/many.toml"
  run_towpath check "$work/many.toml"
  problems=$(grep -cE 'many\.toml:[0-9]+:[0-9]+: ' <<<"$output")
  check check-reports-all-at-once yes "$([ "$problems" -ge 3 ] && echo yes || echo "$output")"
}

command_explain() {
  run_towpath explain --config "$work/towpath.toml" GET http://h1.test/small
  check explain-exit 0 "$status"
  check_match explain-names-the-route '\borigin\b' "$output"
  check_match explain-says-why-others-did-not-match 'origin-http2' "$output"
  run_towpath explain --config "$work/towpath.toml" --listener incoming --json GET http://private.test/ -H 'a: b'
  check explain-json-exit 0 "$status"
  check_match explain-json 'private' "$(from_json '')"
}
