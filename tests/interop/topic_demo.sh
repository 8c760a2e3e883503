# The first README command: it starts by itself, and the lines that it prints to try do work.

topic_demo() {
  local demo line count=0 code
  "$TOWPATH" demo >"$work/demo.out" 2>&1 &
  demo=$!
  started+=("$demo")
  until_true 15 demo_lines_printed || true
  sleep 1
  while read -r line; do
    count=$((count + 1))
    code=0
    timeout 15 bash -c "$line" >"$work/demo.line" 2>&1 || code=$?
    # A curl that is meant to go on (a stream of events) is ended by the time limit.
    [ "$code" -eq 124 ] && [ -s "$work/demo.line" ] && code=0
    check "demo-line-$count" 0 "$code"
  done < <(demo_lines)
  check demo-prints-five-lines yes "$([ "$count" -ge 5 ] && echo yes || tail -5 "$work/demo.out")"
  kill -TERM "$demo" 2>/dev/null || true
  code=0
  gone_within 35 "$demo" && { wait "$demo" || code=$?; }
  check demo-ends 0 "$code"
}

demo_lines() { grep -oE '\bcurl .*' "$work/demo.out" | sort -u | head -8; }
demo_lines_printed() { [ "$(demo_lines | wc -l)" -ge 5 ]; }
