# A real Prometheus scrapes towpath in both text forms and answers questions about calls; promtool reads what we ship; a million hosts stay few
# series. TOWPATH_FLOOD_HOSTS=100000 makes the flood smaller.

topic_prometheus() {
  local prometheus prometheus_port classic_port rate dead median success workers
  read -r prometheus_port classic_port <<<"$(free_ports 2)"
  prometheus=http://127.0.0.1:$prometheus_port
  prometheus_text
  prometheus_files
  start_prometheus "$prometheus_port" "$classic_port" || return 0
  prometheus_traffic
  prometheus_answers
  prometheus_pages
  prometheus_flood
}

# /metrics by itself: what promtool says of the classic form, and the frame of OpenMetrics.
prometheus_text() {
  local open accept='application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'
  check check-metrics "" "$(curl -fsS "$admin/metrics" | promtool check metrics 2>&1)"
  check_match classic-content-type '^text/plain; version=0.0.4; charset=utf-8' \
    "$(curl -fsS -o /dev/null -w '%{content_type}' "$admin/metrics")"
  open=$(curl -fsS -H "accept: $accept" "$admin/metrics")
  check openmetrics-content-type 'application/openmetrics-text; version=1.0.0; charset=utf-8' \
    "$(curl -fsS -o /dev/null -w '%{content_type}' -H "accept: $accept" "$admin/metrics")"
  check openmetrics-ends '# EOF' "$(tail -1 <<<"$open")"
  check_match openmetrics-unit '^# UNIT towpath_dns_query_duration_seconds seconds$' "$open"
  check_no_match openmetrics-families '^# TYPE [a-z_]+_total ' "$open"
}

# What deploy/prometheus holds.
prometheus_files() {
  check_match check-rules SUCCESS "$(promtool check rules deploy/prometheus/towpath.rules.yml 2>&1)"
  check_match test-rules SUCCESS "$(promtool test rules deploy/prometheus/towpath.rules.test.yml 2>&1)"
  check_match check-config 'is valid' "$(promtool check config deploy/prometheus/prometheus.yml 2>&1)"
}

# start_prometheus PORT CLASSIC_PORT: it asks for OpenMetrics; in front of the second target nginx asks for the classic form in its stead.
start_prometheus() {
  cat >"$work/classic.conf" <<CONF
daemon off;
master_process off;
pid $work/classic.pid;
events { }
http {
  access_log off;
  server {
    listen 127.0.0.1:$2;
    location / {
      proxy_pass $admin;
      proxy_set_header host localhost;
      proxy_set_header accept "text/plain;version=0.0.4";
    }
  }
}
CONF
  cat >"$work/prometheus.yml" <<CONF
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ["$PWD/deploy/prometheus/towpath.rules.yml"]
scrape_configs:
  - job_name: towpath
    static_configs: [{ targets: ["127.0.0.1:$admin_port"] }]
  - job_name: classic
    static_configs: [{ targets: ["127.0.0.1:$2"] }]
CONF
  nginx -c "$work/classic.conf" -p "$work" -e "$work/classic.log" &
  started+=($!)
  prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
    --web.listen-address="127.0.0.1:$1" >>"$work/prometheus.log" 2>&1 &
  started+=($!)
  if ! until_true 30 curl -fsS -o /dev/null "$prometheus/-/ready"; then
    fail prometheus "it did not become ready: $(tail -3 "$work/prometheus.log" | tr '\n' '|')"
    return 1
  fi
}

# 80 requests a second that succeed, 20 that nobody answers, for a quarter of a minute.
prometheus_traffic() {
  h2load --h1 -c 4 --rps 20 -D 16 -H ':authority: h1.test' "$proxy/small" >"$work/rate.out" 2>&1 &
  local good=$! bad
  h2load --h1 -c 1 --rps 20 -D 16 -H ':authority: dead.test' "$proxy/small" >"$work/rate_dead.out" 2>&1 &
  bad=$!
  sleep 14
  rate=$(query 'sum(rate(towpath_requests_total{job="towpath",route="origin",code="200"}[8s]))')
  dead=$(query 'sum(rate(towpath_requests_total{job="towpath",route="dead"}[8s]))')
  median=$(query 'histogram_quantile(0.5, sum by (le) (rate(towpath_request_duration_seconds_bucket{job="towpath",route="origin"}[8s])))')
  success=$(query '1 - sum(rate(towpath_requests_total{job="towpath",route=~"origin|dead",code=~"5.."}[8s])) / sum(rate(towpath_requests_total{job="towpath",route=~"origin|dead"}[8s]))')
  workers=$(query 'sum(rate(towpath_worker_cpu_seconds_total{job="towpath"}[8s]))')
  wait "$good" "$bad" || true
}

# query PROMQL: the value of the only series of the answer; else how many there are.
query() {
  curl -fsS -G "$prometheus/api/v1/query" --data-urlencode "query=$1" | "$python" -c '
import json, sys
found = json.load(sys.stdin)["data"]["result"]
print(found[0]["value"][1] if len(found) == 1 else f"{len(found)} series")'
}

# within_bounds NAME LEAST MOST VALUE
within_bounds() {
  check "$1" yes "$(awk -v v="$4" -v a="$2" -v b="$3" 'BEGIN { print (v ~ /^[0-9.e+-]+$/ && v + 0 >= a && v + 0 <= b) ? "yes" : v }')"
}

prometheus_answers() {
  local name
  within_bounds promql-rate 70 90 "$rate"
  within_bounds promql-rate-of-failures 16 24 "$dead"
  within_bounds promql-median 0.00001 0.1 "$median"
  within_bounds promql-success 0.75 0.85 "$success"
  within_bounds promql-worker-cpu 0.0001 2 "$workers"
  check both-forms-are-scraped 2 "$(query 'sum(up)')"
  check alerts-are-sound '{"ok"}' "$(curl -fsS "$prometheus/api/v1/rules" | "$python" -c '
import json, sys
groups = json.load(sys.stdin)["data"]["groups"]
print("{" + ",".join(sorted({json.dumps(r["health"]) for g in groups for r in g["rules"]})) + "}")')"
  check the-unit-is-known seconds "$(curl -fsS "$prometheus/api/v1/targets/metadata?metric=towpath_request_duration_seconds&match_target=%7Bjob%3D%22towpath%22%7D" |
    "$python" -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["unit"])')"
  # At rest both forms say the same.
  sleep 3
  for name in requests attempts errors; do
    check "both-forms-count-$name-alike" 0 \
      "$(query "sum(towpath_${name}_total{job=\"towpath\"}) - sum(towpath_${name}_total{job=\"classic\"})")"
  done
  check both-forms-have-the-same-metrics 0 "$(query 'count(count by (__name__) ({job="towpath",__name__=~"(towpath|process)_.+"})) - count(count by (__name__) ({job="classic",__name__=~"(towpath|process)_.+"}))')"
}

# Every query of the dashboard, asked.
prometheus_pages() {
  absorb dashboard "$python" tests/interop/dashboard_queries.py "$prometheus" deploy/grafana/towpath.json
}

# A million hosts, of which each second a thousand get a service, and as many that no route takes.
prometheus_flood() {
  local pid proxy_port admin_port dns_port
  read -r proxy_port admin_port dns_port <<<"$(free_ports 3)"
  cat >"$work/hosts.toml" <<CONF
[admin]
listen = "127.0.0.1:$admin_port"
[drain]
timeout = "1s"
[dns]
servers = ["127.0.0.1:$dns_port"]
timeout = "200ms"
first_answer_timeout = "200ms"
[host_services]
idle_timeout = "5s"
[[listeners]]
name   = "outgoing"
kind   = "outgoing"
listen = "127.0.0.1:$proxy_port"
[[routes]]
name     = "per-host"
hosts    = ["*"]
match    = [{ path_prefix = "/mesh" }]
backends = [{ dns = "{host}" }]
CONF
  "$TOWPATH" run --config "$work/hosts.toml" >>"$work/hosts.out" 2>>"$work/hosts.log" &
  pid=$!
  started+=("$pid")
  if until_true 15 curl -fsS -o /dev/null "http://127.0.0.1:$admin_port/ready"; then
    absorb host-flood "$python" tests/interop/host_flood.py "$proxy_port" "$admin_port" "$pid" "${TOWPATH_FLOOD_HOSTS:-1000000}"
  else
    fail host-flood "towpath did not become ready: $(tail -3 "$work/hosts.log" | tr '\n' '|')"
  fi
  kill -TERM "$pid"
  gone_within 20 "$pid" || kill -KILL "$pid"
  wait "$pid" || true
}
