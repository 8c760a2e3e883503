# TLS with callers that others wrote: openssl, curl, sslscan, testssl.sh; and certificates that are rotated a hundred times under load.
# A towpath of its own, with certificates of `towpath ca` as the README has it.

topic_tls() {
  read -r tls_port mutual_port tls_admin_port <<<"$(free_ports 3)"
  tls_admin=http://127.0.0.1:$tls_admin_port
  tls_work=$work/tls
  mkdir -p "$tls_work"
  tls_certificates
  tls_start || return 0
  tls_curl
  tls_openssl
  tls_scanners
  tls_rotation
  kill -TERM "$tls_pid"
  gone_within 40 "$tls_pid" || kill -KILL "$tls_pid"
  wait "$tls_pid" || true
}

tls_certificates() {
  "$TOWPATH" ca init --dir "$tls_work" >"$tls_work/init.out"
  "$TOWPATH" ca issue node --dns localhost,node.test --ip 127.0.0.1 --dir "$tls_work" >"$tls_work/node.out"
  "$TOWPATH" ca issue shop.test --dir "$tls_work" >"$tls_work/shop.out"
  "$TOWPATH" ca issue caller --dir "$tls_work" >"$tls_work/caller.out"
  "$TOWPATH" ca issue stranger --dir "$tls_work/foreign" >"$tls_work/stranger.out"
  check ca-makes-what-openssl-verifies "$tls_work/node.crt: OK" \
    "$(openssl verify -x509_strict -purpose sslserver -CAfile "$tls_work/ca.crt" "$tls_work/node.crt" 2>&1)"
  check ca-makes-what-openssl-takes-from-a-client "$tls_work/caller.crt: OK" \
    "$(openssl verify -x509_strict -purpose sslclient -CAfile "$tls_work/ca.crt" "$tls_work/caller.crt" 2>&1)"
}

tls_start() {
  cat >"$tls_work/towpath.toml" <<CONF
[admin]
listen = "127.0.0.1:$tls_admin_port"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:$tls_port"
[listeners.tls]
cert = "node.crt"
key = "node.key"
certificates = [{ cert = "shop.test.crt", key = "shop.test.key" }]
[[listeners]]
name = "mutual"
kind = "outgoing"
listen = "127.0.0.1:$mutual_port"
tls = { cert = "node.crt", key = "node.key", client_ca = "ca.crt" }
[[routes]]
name = "all"
hosts = ["*"]
backends = [{ service = "origin" }]
[services.origin]
endpoints = ["127.0.0.1:$origin_port"]
CONF
  "$TOWPATH" run --config "$tls_work/towpath.toml" >>"$tls_work/out" 2>>"$tls_work/log" &
  tls_pid=$!
  started+=("$tls_pid")
  until_true 15 curl -fsS -o /dev/null "$tls_admin/ready" && return
  fail tls "towpath did not become ready: $(tail -3 "$tls_work/log" | tr '\n' '|')"
  return 1
}

tls_curl() {
  local hello="hello from the origin" options=(--cacert "$tls_work/ca.crt")
  check tls-http1.1 "$hello" "$(c "${options[@]}" --http1.1 "https://localhost:$tls_port/small")"
  check tls-http2 "$hello 2" \
    "$(c "${options[@]}" --http2 -w '%{http_version}' "https://localhost:$tls_port/small" | tr '\n' ' ')"
  check tls-1.2 "$hello" "$(c "${options[@]}" --tls-max 1.2 "https://localhost:$tls_port/small")"
  check tls-1.3 "$hello" "$(c "${options[@]}" --tlsv1.3 "https://localhost:$tls_port/small")"
  check tls-large "$(digest <"$work/root/large")" "$(c "${options[@]}" "https://localhost:$tls_port/large" | digest)"
  check tls-upload 201 "$(c "${options[@]}" -T "$work/root/large" -o /dev/null -w '%{http_code}' \
    "https://localhost:$tls_port/put/tls-$RANDOM")"
  check_match plain-http-is-told 'plain HTTP to a port of HTTPS' "$(c "http://localhost:$tls_port/small")"
  check mutual-tls "$hello" "$(c "${options[@]}" --cert "$tls_work/caller.crt" --key "$tls_work/caller.key" \
    "https://localhost:$mutual_port/small")"
  check_match mutual-tls-without-certificate 'certificate required|handshake failure|alert' \
    "$(c "${options[@]}" "https://localhost:$mutual_port/small")"
  check_match mutual-tls-with-a-foreign-certificate 'unknown ca|alert' "$(c "${options[@]}" \
    --cert "$tls_work/foreign/stranger.crt" --key "$tls_work/foreign/stranger.key" "https://localhost:$mutual_port/small")"
}

# s_client ARGUMENT...: what it says of one connection that it closes at once.
s_client() { timeout 20 openssl s_client -connect "127.0.0.1:$tls_port" -CAfile "$tls_work/ca.crt" "$@" </dev/null 2>&1 || true; }

tls_openssl() {
  local version
  check_match openssl-verifies 'Verify return code: 0 \(ok\)' "$(s_client -servername node.test -verify_hostname node.test)"
  check_match alpn-h2 'ALPN protocol: h2' "$(s_client -alpn h2,http/1.1)"
  check_match alpn-http1.1 'ALPN protocol: http/1.1' "$(s_client -alpn http/1.1)"
  check_match sni-shows-the-certificate-asked-for 'CN ?= ?shop\.test' "$(s_client -servername shop.test)"
  check_match sni-unknown-shows-the-first 'subject=CN ?= ?node' "$(s_client -servername unknown.test)"
  for version in tls1 tls1_1; do
    check_match "$version-is-refused" 'alert|no protocols|unsupported|no cipher|wrong version' \
      "$(s_client "-$version" -cipher 'ALL:@SECLEVEL=0')"
  done
  for version in tls1_2 tls1_3; do
    s_client "-$version" -sess_out "$tls_work/session" >"$tls_work/full"
    # With TLS 1.3 tickets come after the handshake: read one answer first.
    printf 'GET /small HTTP/1.1\r\nhost: node.test\r\nconnection: close\r\n\r\n' | timeout 20 openssl s_client \
      -connect "127.0.0.1:$tls_port" "-$version" -ign_eof -sess_out "$tls_work/session" >"$tls_work/full" 2>&1 || true
    check_match "$version-is-resumed" '^Reused' "$(s_client "-$version" -sess_in "$tls_work/session")"
  done
}

# Findings of the scanners about the protocol; the authority is of our own, which no scanner knows.
tls_scanners() {
  local scan
  scan=$(timeout 120 sslscan --no-colour "127.0.0.1:$tls_port" 2>&1 || true)
  check_match sslscan-ran 'TLSv1.3 +enabled' "$scan"
  check_no_match sslscan-no-old-protocol '(SSLv2|SSLv3|TLSv1\.0|TLSv1\.1) +enabled' "$scan"
  check_no_match sslscan-no-weak-cipher \
    'Accepted.*(RC4|3?DES|NULL|EXP|MD5|ADH|AECDH|CBC| (40|56|64|112) bits)|vulnerable to heartbleed' \
    "$(grep -v 'not vulnerable to heartbleed' <<<"$scan")"
  check_no_match sslscan-no-compression-or-renegotiation 'Compression enabled|Insecure session renegotiation' "$scan"
  timeout 400 testssl --quiet --warnings off --color 0 --protocols --server-defaults --fs --std --vulnerable \
    --jsonfile "$tls_work/testssl.json" "127.0.0.1:$tls_port" >"$tls_work/testssl.out" 2>&1 || true
  check testssl-no-weakness none "$("$python" - "$tls_work/testssl.json" <<'PY'
import json, sys
# What an authority of our own cannot have: a chain that is known, revocation, transparency, a name for an address.
own = ("cert_chain_of_trust", "cert_trust", "cert_revocation", "cert_crl", "cert_ocsp", "cert_notAfter", "cert_extlifeSpan",
       "cert_validityPeriod", "OCSP_stapling", "certificate_transparency", "DNS_CAArecord", "engine_problem", "scanProblem",
       "scanTime", "cert_subjectAltName", "cert_certificatePolicies_EV")
found = json.load(open(sys.argv[1]))
bad = [f"{x['id']}: {x['finding']}" for x in found
       if x["severity"] in ("MEDIUM", "HIGH", "CRITICAL") and not x["id"].startswith(own)]
print("; ".join(bad) or "none")
PY
)"
  check_match testssl-ran '"id" *: "(heartbleed|robot|BEAST)' "$(cat "$tls_work/testssl.json" 2>&1)"
}

# New connections all the time, over both protocols, while the certificate and its key are replaced a hundred times.
tls_rotation() {
  local before round loads=() load over
  before=$(tls_renewed)
  over=$tls_work/over
  rm -f "$over"
  for load in http1.1 http2; do
    tls_load "$load" "$over" >"$tls_work/load.$load" 2>&1 &
    loads+=($!)
    started+=($!)
  done
  timeout 120 h2load -D 20 -c 8 -H ':authority: localhost' "https://localhost:$tls_port/small" >"$tls_work/h2load" 2>&1 &
  loads+=($!)
  started+=($!)
  for round in $(seq 100); do
    "$TOWPATH" ca issue node --dns localhost,node.test --ip 127.0.0.1 --dir "$tls_work" --force >"$tls_work/node.out"
    kill -HUP "$tls_pid"
    sleep 0.2
  done
  touch "$over"
  for load in "${loads[@]}"; do wait "$load" || true; done
  check_match a-hundred-rotations-are-in-use '^yes' "$([ $(($(tls_renewed) - before)) -ge 100 ] && echo yes || tls_renewed)"
  for load in http1.1 http2; do
    check_match "rotation-under-$load-serves" '^served [1-9][0-9]+' "$(tail -1 "$tls_work/load.$load")"
    check_no_match "rotation-under-$load-fails-nothing" 'failed' "$(cat "$tls_work/load.$load")"
  done
  check_match rotation-under-h2load-fails-nothing ', 0 failed, 0 errored, 0 timeout' "$(grep '^requests:' "$tls_work/h2load")"
  check_match rotation-under-h2load-serves 'requests: [1-9][0-9]{2,} total' "$(grep '^requests:' "$tls_work/h2load")"
  check_match the-last-certificate-is-shown "$(openssl x509 -in "$tls_work/node.crt" -noout -fingerprint -sha256)" \
    "$(s_client -servername node.test | openssl x509 -noout -fingerprint -sha256)"
}

tls_renewed() {
  curl -fsS "$tls_admin/metrics" | awk '/^towpath_tls_reloads_total{result="renewed"}/ { print $2 + 0; n = 1 } END { if (!n) print 0 }'
}

# Requests on a connection each, until the file is there.
tls_load() {
  local served=0
  until [ -e "$2" ]; do
    if curl -fsS --noproxy '*' -m 20 --cacert "$tls_work/ca.crt" "--$1" -o /dev/null "https://localhost:$tls_port/small"; then
      served=$((served + 1))
    else
      echo "failed: $?"
    fi
  done
  echo "served $served"
}
