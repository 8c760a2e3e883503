# Two nodes on one host, at 127.0.0.1 and 127.0.0.2: calls pass between them by mTLS to a real nginx, under load of wrk, and cost
# so many times the CPU of a plain hop through one daemon (both daemons together; rounds of either take turns). About a minute.

topic_mesh() {
  local mesh_proxy mesh_admin mesh_incoming far_admin far_origin
  read -r mesh_proxy mesh_admin mesh_incoming far_admin far_origin <<<"$(free_ports 5)"
  mesh_certificates "$work/mesh" || { fail mesh "no certificates: $(tail -1 "$work/mesh.stderr")"; return 0; }
  mesh_origin
  mesh_node a "$mesh_admin" "127.0.0.1:$mesh_proxy" 127.0.0.1 >"$work/mesh-a.toml"
  mesh_node b "$far_admin" "127.0.0.2:$mesh_proxy" 127.0.0.2 >"$work/mesh-b.toml"
  mesh_start a "$mesh_admin" && mesh_start b "$far_admin" || return 0
  check "mesh: a call passes" "hello from the origin" \
    "$(curl -sS -H 'host: through' "http://127.0.0.1:$mesh_proxy/small" 2>&1)"
  check_match "mesh: it came through both nodes" 'towpath_requests_total.*route="peer".* 1$' \
    "$(curl -sS "http://127.0.0.1:$far_admin/metrics" 2>&1)"
  check "mesh: without a certificate nothing passes" 000 \
    "$(curl -sk -o "$work/mesh.none" -w '%{http_code}' "https://127.0.0.2:$mesh_incoming/small")"
  mesh_cost
  kill -TERM "$mesh_a" "$mesh_b" "$mesh_nginx"
  wait "$mesh_a" "$mesh_b" "$mesh_nginx" 2>/dev/null || true
}

# mesh_certificates DIRECTORY: an authority, and a certificate for each node.
mesh_certificates() {
  mkdir -p "$1"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=mesh \
      -keyout "$1/ca.key" -out "$1/ca.crt"
    local node
    for node in a b; do
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$node" -keyout "$1/$node.key" -out "$1/$node.csr"
      openssl x509 -req -in "$1/$node.csr" -CA "$1/ca.crt" -CAkey "$1/ca.key" -days 1 -out "$1/$node.crt" \
        -extfile <(echo "subjectAltName=URI:spiffe://mesh/node/$node")
    done
    chmod 600 "$1"/*.key
  } 2>"$work/mesh.stderr"
}

mesh_origin() {
  sed -n '1,/^http {/p' "$work/nginx.conf" | sed "s/nginx\.pid/mesh-nginx.pid/" >"$work/mesh-nginx.conf"
  cat >>"$work/mesh-nginx.conf" <<CONF
  access_log off;
  keepalive_requests 1000000000;
  root $work/root;
  server { listen 127.0.0.2:$far_origin; }
}
CONF
  nginx -c "$work/mesh-nginx.conf" -p "$work" -e "$work/nginx.log" &
  mesh_nginx=$!
  started+=("$mesh_nginx")
}

# mesh_node NAME ADMIN_PORT OUTGOING INCOMING_ADDRESS
mesh_node() {
  local tls="cert = \"$work/mesh/$1.crt\", key = \"$work/mesh/$1.key\""
  cat <<CONF
[node]
name = "$1"
workers = 1
[admin]
listen = "127.0.0.1:$2"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "$3"
[[listeners]]
name = "incoming"
kind = "incoming"
listen = "$4:$mesh_incoming"
tls = { $tls, client_ca = "$work/mesh/ca.crt" }
[[routes]]
name = "through"
hosts = ["through"]
backends = [{ service = "through" }]
[[routes]]
name = "plain"
hosts = ["plain"]
backends = [{ service = "plain" }]
[services.through]
endpoints = ["127.0.0.2:$far_origin"]
peer = { port = $mesh_incoming, local = "peer", tls = { ca = "$work/mesh/ca.crt", $tls } }
[services.plain]
endpoints = ["127.0.0.2:$far_origin"]
CONF
}

# mesh_start NAME ADMIN_PORT: leaves its pid in mesh_NAME.
mesh_start() {
  "$TOWPATH" run --config "$work/mesh-$1.toml" >>"$work/mesh-$1.out" 2>>"$work/mesh-$1.log" &
  printf -v "mesh_$1" %s $!
  started+=($!)
  until_true 15 curl -fsS -o /dev/null "http://127.0.0.1:$2/ready" && return
  fail "mesh: node $1" "not ready: $(tail -3 "$work/mesh-$1.log" | tr '\n' '|')"
  return 1
}

# Ticks of CPU that both nodes have used.
mesh_ticks() { cat "/proc/$mesh_a/stat" "/proc/$mesh_b/stat" | awk '{ sub(/.*\) /, ""); sum += $12 + $13 } END { print sum }'; }

# mesh_round HOST: microseconds of CPU per request, both nodes together.
mesh_round() {
  local before after requests output
  before=$(mesh_ticks)
  output=$(wrk -t1 -c32 -d"${MESH_SECONDS:-3}s" -H "Host: $1" "http://127.0.0.1:$mesh_proxy/small" 2>&1)
  after=$(mesh_ticks)
  requests=$(awk '/requests in/ { print $1 }' <<<"$output")
  grep -qE 'Non-2xx|Socket errors' <<<"$output" && fail "mesh: load of $1" "$output"
  awk -v t=$((after - before)) -v r="$requests" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f\n", t / hz * 1e6 / r }'
}

# The median of rounds that take turns.
mesh_cost() {
  local round plain through
  mesh_round plain >/dev/null && mesh_round through >/dev/null
  : >"$work/mesh.plain" && : >"$work/mesh.through"
  for round in 1 2 3 4 5; do
    mesh_round plain >>"$work/mesh.plain"
    mesh_round through >>"$work/mesh.through"
  done
  plain=$(sort -n "$work/mesh.plain" | sed -n 3p)
  through=$(sort -n "$work/mesh.through" | sed -n 3p)
  local ratio
  ratio=$(awk -v a="$through" -v b="$plain" 'BEGIN { printf "%.2f", a / b }')
  echo "   CPU per request: $plain us by a plain hop, $through us through two nodes by mTLS: $ratio times (the aim is 2.2)"
}
