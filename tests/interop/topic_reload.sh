# Reload by signal and by command; a broken file changes nothing and says where it is broken.

topic_reload() {
  local before
  check before-reload first "$(switch_origin)"
  before=$(metric config_generation)
  check api-status-has-the-generation "$before" "$(api_generation)"
  reload_by_signal "$before"
  reload_of_broken_file
  reload_by_command
  reload_under_load
}

switch_origin() { c -i -H 'host: switch.test' "$proxy/small" | tr -d '\r' | awk '$1 == "x-origin:" { print $2 }'; }
switched_to() { [ "$(switch_origin)" = "$1" ]; }
api_generation() {
  c "$admin/api/status" | "$python" -c 'import json,sys; print(json.load(sys.stdin)["generation"])' 2>&1 | tail -1
}

reload_by_signal() {
  write_config "$work/towpath.toml" after
  kill -HUP "$towpath_pid"
  until_true 10 switched_to second || true
  check sighup-switches-the-route second "$(switch_origin)"
  check sighup-raises-the-generation "$(($1 + 1))" "$(api_generation)"
  check gauge-after-a-good-reload 1 "$(metric config_last_reload_success)"
}

reload_of_broken_file() {
  local generation
  generation=$(api_generation)
  write_config "$work/towpath.toml" broken
  kill -HUP "$towpath_pid"
  until_true 10 grep -qE 'towpath\.toml:[0-9]+:[0-9]+' "$work/towpath.log" "$work/towpath.out" || true
  check_match broken-file-is-named-in-the-log 'towpath\.toml:[0-9]+:[0-9]+: .*hostz' \
    "$(cat "$work/towpath.log" "$work/towpath.out")"
  check gauge-after-a-broken-reload 0 "$(metric config_last_reload_success)"
  check broken-file-keeps-the-generation "$generation" "$(api_generation)"
  check broken-file-keeps-serving second "$(switch_origin)"
  run_towpath reload --admin "$admin"
  check reload-command-on-a-broken-file-fails yes "$([ "$status" -ne 0 ] && echo yes)"
  check_match reload-command-says-why 'hostz' "$output"
}

reload_by_command() {
  write_config "$work/towpath.toml" before
  run_towpath reload --admin "$admin"
  check reload-command-exit 0 "$status"
  check reload-command-switches-the-route first "$(switch_origin)"
  check gauge-recovers 1 "$(metric config_last_reload_success)"
}

# Routes switch to and fro while h2load counts.
reload_under_load() {
  local load side
  timeout 60 h2load --h1 -D 5 -c 16 -H ':authority: switch.test' "$proxy/small" >"$work/reload.load" 2>&1 &
  load=$!
  started+=("$load")
  for _ in $(seq 20); do
    for side in after before; do
      write_config "$work/towpath.toml" "$side"
      kill -HUP "$towpath_pid"
      sleep 0.1
    done
  done
  wait "$load" || true
  check_match reload-under-load-loses-nothing ', 0 failed, 0 errored, 0 timeout' "$(grep '^requests:' "$work/reload.load")"
  check_match reload-under-load-serves 'requests: [1-9][0-9]{3,} total' "$(grep '^requests:' "$work/reload.load")"
  check_match reload-under-load-2xx-only ' 0 3xx, 0 4xx, 0 5xx' "$(grep '^status' "$work/reload.load")"
}
