# Services that DNS tells, with bind9 as the server and nsupdate to change its zone: addresses that go and come, SRV
# records, truncation, aliases, an outage, and thousands of names. A towpath of its own, on ports of its own.

dns_ttl=2

topic_dns() {
  read -r named_port rndc_port backends_port dead_backends_port dns_proxy_port dns_admin_port <<<"$(free_ports 6)"
  dns_proxy=127.0.0.1:$dns_proxy_port
  dns_admin=http://127.0.0.1:$dns_admin_port
  dns_work=$work/dns
  mkdir -p "$dns_work"
  "$python" "$here/dns_backends.py" "$backends_port" 2>"$work/dns_backends.log" &
  started+=($!)
  write_zone
  start_named
  start_dns_towpath
  dns_addresses
  dns_srv
  dns_shapes
  dns_churn
  dns_outage
  stop_dns_towpath
  dns_many_names
  end_named
}

write_zone() {
  local n
  {
    echo "\$ORIGIN mesh.test."
    echo "@ $dns_ttl SOA ns admin 1 3600 600 86400 $dns_ttl"
    echo "@ $dns_ttl NS ns"
    echo "ns $dns_ttl A 127.0.0.1"
    echo "moving $dns_ttl A 127.0.0.2"
    echo "moving $dns_ttl A 127.0.0.3"
    echo "alias $dns_ttl CNAME alias2"
    echo "alias2 $dns_ttl CNAME alias3"
    echo "alias3 $dns_ttl A 127.0.0.9"
    echo "six $dns_ttl AAAA ::1"
    for n in $(seq 200); do echo "big $dns_ttl A 127.1.0.$n"; done
    echo "_http._tcp.weighted $dns_ttl SRV 0 30 $backends_port w1"
    echo "_http._tcp.weighted $dns_ttl SRV 0 10 $backends_port w2"
    echo "_http._tcp.weighted $dns_ttl SRV 1 10 $backends_port w3"
    echo "_http._tcp.failing $dns_ttl SRV 0 10 $dead_backends_port w1"
    echo "_http._tcp.failing $dns_ttl SRV 1 10 $backends_port w3"
    for n in 1 2 3; do echo "w$n $dns_ttl A 127.0.0.1$n"; done
    for n in $(seq 0 499); do echo "churn 1 A 127.3.$((n / 250)).$((n % 250 + 1))"; done
    for n in $(seq 2000); do echo "n$n 300 A 127.2.$((n / 250)).$((n % 250 + 1))"; done
  } >"$dns_work/mesh.test.zone"
  cat >"$dns_work/named.conf" <<CONF
options {
  directory "$dns_work";
  pid-file "$dns_work/named.pid";
  session-keyfile "$dns_work/session.key";
  lock-file none;
  listen-on port $named_port { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  empty-zones-enable no;
  dnssec-validation no;
  notify no;
  tcp-clients 1000;
  querylog yes;
  max-records-per-type 0;
};
controls { };
zone "mesh.test" { type primary; file "$dns_work/mesh.test.zone"; allow-update { 127.0.0.1; }; };
CONF
}

# -g: in the foreground, with everything that it logs on standard error, queries among it.
start_named() {
  named -g -c "$dns_work/named.conf" >>"$dns_work/named.log" 2>&1 &
  named_pid=$!
  started+=("$named_pid")
  until_true 10 grep -q 'running$' "$dns_work/named.log" || fail dns-named "$(tail -3 "$dns_work/named.log")"
}

end_named() {
  kill -TERM "$named_pid"
  gone_within 10 "$named_pid" || kill -KILL "$named_pid"
  wait "$named_pid" 2>/dev/null || true
}

# update LINE...: changes the zone, and says when (seconds since 1970).
update() {
  { echo "server 127.0.0.1 $named_port"; echo "zone mesh.test"; printf 'update %s\n' "$@"; echo send; } |
    nsupdate || fail dns-nsupdate "$*"
  date +%s.%N
}

# service NAME SOURCE
dns_service() { printf '[[routes]]\nname = "%s"\nhosts = ["%s.test"]\nbackends = [{ service = "%s" }]\n[services.%s]\n%s\nprotocol = "http1"\nbalancer = "round-robin"\n' "$1" "$1" "$1" "$1" "$2"; }

dns_node() {
  cat <<CONF
[node]
name = "interop-dns"
workers = 2
[admin]
listen = "127.0.0.1:$dns_admin_port"
[dns]
servers = ["127.0.0.1:$named_port"]
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "$dns_proxy"
CONF
}

write_dns_config() {
  local name
  dns_node
  for name in moving alias six big churn; do
    dns_service "$name" "dns = \"$name.mesh.test:$backends_port\""
  done
  for name in weighted failing; do
    dns_service "$name" "srv = \"_http._tcp.$name.mesh.test\""
  done
}

start_dns_towpath() {
  [ -e "$dns_work/towpath.toml" ] || write_dns_config >"$dns_work/towpath.toml"
  "$TOWPATH" run --config "$dns_work/towpath.toml" >>"$work/dns-towpath.out" 2>>"$work/dns-towpath.log" &
  dns_towpath_pid=$!
  started+=("$dns_towpath_pid")
  until_true 15 curl -fsS -o /dev/null "$dns_admin/ready" || fail dns-towpath "$(tail -3 "$work/dns-towpath.log")"
}

stop_dns_towpath() {
  kill -TERM "$dns_towpath_pid"
  gone_within 40 "$dns_towpath_pid" || kill -KILL "$dns_towpath_pid"
  wait "$dns_towpath_pid" || true
}

# dns_load NAME SECONDS: in the background; its pid is in $load, its report in $dns_work/NAME.load.
dns_load() {
  timeout 60 "$python" "$here/dns_load.py" "$dns_proxy" "$1.test" "$2" >"$dns_work/$1.load" 2>"$dns_work/$1.stderr" &
  load=$!
  started+=("$load")
}

# dns_ask NAME: which address answers.
dns_ask() { curl -sS -m 10 -H "host: $1.test" "http://$dns_proxy/" 2>&1; }

# The state of a service: dns_state NAME KEY
dns_state() {
  curl -fsS "$dns_admin/api/services" | "$python" -c '
import json, sys
service = next(s for s in json.load(sys.stdin)["services"] if s["name"] == sys.argv[1])
print(len(service["endpoints"]) if sys.argv[2] == "count" else service[sys.argv[2]])' "$1" "$2"
}
dns_state_is() { [ "$(dns_state "$1" "$2")" = "$3" ]; }

# within_seconds NAME FROM TO SECONDS
within_seconds() {
  if awk -v from="$2" -v to="$3" -v most="$4" 'BEGIN { exit !(to != "" && to - from <= most) }'; then
    ok "$1"
  else
    fail "$1" "$(awk -v from="$2" -v to="$3" 'BEGIN { print to - from }') s, more than $4 s"
  fi
}

# An address that goes takes no request later than its TTL and a second; one that comes is used by then.
dns_addresses() {
  local load removed added report
  check dns-alias-chain 127.0.0.9 "$(dns_ask alias)"
  if [ -e /proc/net/if_inet6 ]; then check dns-aaaa ::1 "$(dns_ask six)"; fi
  dns_load moving 12
  sleep 2
  removed=$(update "delete moving.mesh.test. A 127.0.0.3")
  sleep 5
  added=$(update "add moving.mesh.test. $dns_ttl A 127.0.0.4")
  wait "$load" || true
  report=$(cat "$dns_work/moving.load" "$dns_work/moving.stderr")
  check_match dns-changes-fail-nothing '^[1-9][0-9]{2,} requests, 0 failed$' "$report"
  within_seconds dns-removed-address "$removed" "$(awk '$1 == "127.0.0.3" { print $4 }' <<<"$report")" $((dns_ttl + 1))
  within_seconds dns-added-address "$added" "$(awk '$1 == "127.0.0.4" { print $3 }' <<<"$report")" $((dns_ttl + 1))
}

# Weights share, priorities wait; a target that refuses connections hands over to the next priority.
dns_srv() {
  local load shares
  dns_load weighted 3
  wait "$load" || true
  shares=$(awk '/requests/ { all = $1 } $1 == "127.0.0.11" { one = $2 } $1 == "127.0.0.12" { two = $2 }
    END { print (one + two == all && one / all > 0.7 && one / all < 0.8) ? "30:10" : one ":" two " of " all }' \
    "$dns_work/weighted.load")
  check dns-srv-weights 30:10 "$shares"
  dns_load failing 3
  wait "$load" || true
  check_match dns-srv-next-priority-fails-nothing '^[1-9][0-9]{2,} requests, 0 failed$' \
    "$(cat "$dns_work/failing.load" "$dns_work/failing.stderr")"
  check_match dns-srv-next-priority '^127.0.0.13 ' "$(cat "$dns_work/failing.load")"
}

# More records than a datagram holds.
dns_shapes() {
  until_true 10 dns_state_is big count 200 || true
  check dns-200-addresses 200 "$(dns_state big count)"
  check_match dns-truncation-goes-to-tcp 'query: big\.mesh\.test IN A .*T' "$(cat "$dns_work/named.log")"
}

# 10,000 changes under load: 500 addresses of TTL 1 s, all of them replaced ten times.
dns_churn() {
  local report
  report=$(timeout 120 "$python" "$here/dns_churn.py" "$dns_proxy" churn.test churn.mesh.test "$named_port" 1 2>&1) || true
  echo "   $report"
  check_match dns-10000-changes '^10000 changes, [1-9][0-9]{3,} requests to [1-9][0-9]{3,} addresses, 0 failed, at most ([01]\.[0-9]|2\.0) s late$' "$report"
}

# The last good answer stays in use while no server answers, and everybody can see that it is old.
dns_outage() {
  local load
  end_named
  dns_load moving 8
  until_true 10 dns_state_is moving state failing || true
  check dns-outage-is-told failing "$(dns_state moving state)"
  check_match dns-outage-names-the-server "127.0.0.1:$named_port" "$(dns_state moving message)"
  check_match dns-outage-in-status 'failing' "$("$TOWPATH" status --admin "$dns_admin" 2>&1)"
  wait "$load" || true
  check_match dns-outage-fails-nothing '^[1-9][0-9]{2,} requests, 0 failed$' \
    "$(cat "$dns_work/moving.load" "$dns_work/moving.stderr")"
  start_named
  until_true 15 dns_state_is moving state current || true
  check dns-outage-heals current "$(dns_state moving state)"
}

# 2,000 names: 4,000 queries, 500 names a second. Half as much again is allowed for in any tenth of a second, and
# retransmissions of a busy machine with it.
dns_many_names() {
  local n
  {
    dns_node
    for n in $(seq 2000); do dns_service "n$n" "dns = \"n$n.mesh.test:$backends_port\""; done
  } >"$dns_work/towpath.toml"
  start_dns_towpath
  check dns-a-name-that-a-request-waits-for 127.2.8.1 "$(dns_ask n2000)"
  until_true 30 dns_all_known || true
  check dns-2000-names 2000 "$(dns_known)"
  check dns-2000-names-no-burst yes "$(dns_peak)"
  stop_dns_towpath
}

dns_known() {
  curl -fsS "$dns_admin/api/services" | "$python" -c '
import json, sys
print(sum(len(s["endpoints"]) == 1 for s in json.load(sys.stdin)["services"]))'
}
dns_all_known() { [ "$(dns_known)" = 2000 ]; }

# `yes`, or the most queries in a tenth of a second.
dns_peak() {
  "$python" -c '
import datetime, re, sys
at = []
for line in open(sys.argv[1]):
    if found := re.match(r"(\d+-\w+-\d+ [\d:.]+) .*query: n\d+\.mesh", line):
        at.append(datetime.datetime.strptime(found[1], "%d-%b-%Y %H:%M:%S.%f").timestamp())
at.sort()
first, peak = 0, 0
for last, now in enumerate(at):
    while now - at[first] > 0.1:
        first += 1
    peak = max(peak, last - first + 1)
print("yes" if 4000 <= len(at) <= 5000 and peak <= 200 else f"{peak} queries in 100 ms, {len(at)} in all")' \
    "$dns_work/named.log"
}
