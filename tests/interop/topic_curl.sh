# curl in every mode that a service of the host might use.

# Requests must end; a hang is a failure with a name.
c() { curl -sS --noproxy '' -m 60 "$@" 2>&1 || echo "curl exit $?"; }

topic_curl() {
  curl_versions
  curl_forms
  curl_bodies
  curl_semantics
  curl_connections
}

curl_versions() {
  local hello="hello from the origin"
  check http1.1 "$hello" "$(c -H 'host: h1.test' "$proxy/small")"
  check http1.0 "$hello" "$(c -0 -H 'host: h1.test' "$proxy/small")"
  check http1.0-closes "0" "$(c -0 -H 'host: h1.test' -o /dev/null -o /dev/null -w '%{num_connects}\n' \
    "$proxy/small" "$proxy/small" | grep -c '^0$')"
  check http1.0-of-a-chunked-answer "$hello" "$(c -0 -H 'host: h1.test' "$proxy/chunked/small")"
  check_no_match http1.0-gets-no-chunks '^transfer-encoding' \
    "$(c -0 -i -H 'host: h1.test' "$proxy/chunked/small" | tr '[:upper:]' '[:lower:]')"
  check http2-to-http1 "$hello 2" \
    "$(c --http2-prior-knowledge -H 'host: h1.test' -w '%{http_version}' "$proxy/small" | tr '\n' ' ')"
  check http1-to-http2 "$hello 1.1" "$(c -H 'host: h2.test' -w '%{http_version}' "$proxy/small" | tr '\n' ' ')"
  check http2-to-http2 "$hello 2" \
    "$(c --http2-prior-knowledge -H 'host: h2.test' -w '%{http_version}' "$proxy/small" | tr '\n' ' ')"
  check http1.0-to-http2 "$hello" "$(c -0 -H 'host: h2.test' "$proxy/small")"
}

curl_forms() {
  local hello="hello from the origin"
  check http-proxy-absolute-form "$hello" "$(c -x "$proxy" http://h1.test/small)"
  check http-proxy-absolute-form-1.0 "$hello" "$(c -0 -x "$proxy" http://h1.test/small)"
  check http-proxy-variable "$hello" "$(http_proxy=$proxy curl -sS -m 20 http://h1.test/small 2>&1)"
  check_match absolute-form-reaches-the-origin-in-origin-form 'x-seen-uri: /small\?q=1' \
    "$(c -i -x "$proxy" 'http://h1.test/small?q=1' | tr -d '\r')"
  check http-proxy-to-an-address "$hello" "$(c -x "$proxy" "http://127.0.0.1:$origin_port/small")"
  check unix-socket "$hello" "$(c --unix-socket "$socket" http://h1.test/small)"
  check unix-socket-http2 "$hello" "$(c --unix-socket "$socket" --http2-prior-knowledge http://h1.test/small)"
  check incoming-listener "$hello" "$(c -H 'host: private.test' "$incoming/small")"
  options_star
}

# What the origin says to `OPTIONS *` itself is what must come back.
options_star() {
  local direct
  direct=$(c -o /dev/null -w '%{http_code}' -X OPTIONS --request-target '*' "http://127.0.0.1:$origin_port/")
  check options-star "$direct" \
    "$(c -o /dev/null -w '%{http_code}' -X OPTIONS --request-target '*' -H 'host: h1.test' "$proxy/")"
  check_no_match options-star-is-not-refused-by-towpath '^towpath-error' \
    "$(c -i -X OPTIONS --request-target '*' -H 'host: h1.test' "$proxy/")"
}

curl_bodies() {
  local large chunked
  large=$(digest <"$work/root/large")
  chunked=$(digest <"$work/root/chunked/large")
  check large-download "$large" "$(curl -sS -m 60 -H 'host: h1.test' "$proxy/large" | digest)"
  check large-download-http2 "$large" \
    "$(curl -sS -m 60 --http2-prior-knowledge -H 'host: h2.test' "$proxy/large" | digest)"
  check large-download-http1-from-http2 "$large" "$(curl -sS -m 60 -H 'host: h2.test' "$proxy/large" | digest)"
  check large-download-http2-from-http1 "$large" \
    "$(curl -sS -m 60 --http2-prior-knowledge -H 'host: h1.test' "$proxy/large" | digest)"
  check chunked-download "$chunked" "$(curl -sS -m 60 -H 'host: h1.test' "$proxy/chunked/large" | digest)"
  check chunked-download-http1.0 "$chunked" "$(curl -sS -m 60 -0 -H 'host: h1.test' "$proxy/chunked/large" | digest)"
  check slow-reader "$large" \
    "$(curl -sS -m 60 --limit-rate 16M -H 'host: h1.test' "$proxy/large" | digest)"
  upload length -T "$work/root/large"
  upload chunked -T - -H 'transfer-encoding: chunked'
  upload http1.0 -0 -T "$work/root/large"
  upload http2 --http2-prior-knowledge -T -
  echo_upload http1-to-http2
  echo_upload http2-to-http2 --http2-prior-knowledge
}

# The origin stores a PUT as a file; what it stored is compared.
upload() {
  local name=$1 stored="$work/root/put/$1"
  shift
  c -o "$work/discard" "$@" -H 'host: h1.test' "$proxy/put/$name" <"$work/root/large" >"$work/upload.$name"
  if [ -e "$stored" ]; then
    check "upload-$name" "$(digest <"$work/root/large")" "$(digest <"$stored")"
  else
    fail "upload-$name" "nothing arrived: $(cat "$work/upload.$name")"
  fi
  rm -f "$stored"
}

echo_upload() {
  local name=$1
  shift
  check "upload-and-echo-$name" "$(digest <"$work/root/large")" \
    "$(curl -sS -m 60 "$@" -H 'host: h2.test' -X POST --data-binary @"$work/root/large" "$proxy/echo" | digest)"
}

curl_semantics() {
  local head
  head=$(c -v -H 'host: h1.test' -H 'expect: 100-continue' -T "$work/root/large" "$proxy/put/expect")
  check_match expect-100-continue '^< HTTP/1.1 100' "$head"
  check expect-100-continue-body "$(digest <"$work/root/large")" \
    "$(digest <"$work/root/put/expect" 2>/dev/null)"
  head=$(c -I -H 'host: h1.test' "$proxy/large" | tr -d '\r' | tr '[:upper:]' '[:lower:]')
  check_match head-keeps-content-length '^content-length: 33554432$' "$head"
  check head-http2 "200 33554432" "$(c -I --http2-prior-knowledge -H 'host: h2.test' "$proxy/large" | tr -d '\r' |
    awk '/^HTTP/ { code = $2 } tolower($1) == "content-length:" { print code, $2 }')"
  check no-content "204 0" "$(c -H 'host: h1.test' -w '%{http_code} %{size_download}' "$proxy/status/204")"
  check not-modified 304 "$(c -H 'host: h1.test' -w '%{http_code}' "$proxy/status/304")"
  check any-status "teapot 418" "$(c -H 'host: h1.test' -w ' %{http_code}' "$proxy/status/418")"
  check range "hello 206" "$(c -H 'host: h1.test' -r 0-4 -w ' %{http_code}' "$proxy/small")"
  head=$(c -i -H 'host: h1.test' -H 'connection: x-custom' -H 'x-custom: hop' "$proxy/small" | tr -d '\r')
  check_no_match hop-by-hop-fields-stay-behind '^x-seen-custom' "$head"
  check_match via-is-added '^x-seen-via: ' "$head"
  check_match host-is-kept '^x-seen-host: h1.test$' "$head"
  check_match end-to-end-fields-pass '^x-seen-custom: kept' \
    "$(c -i -H 'host: h1.test' -H 'x-custom: kept' "$proxy/small")"
}

curl_connections() {
  local output
  check keep-alive-reuse "1 0 0" "$(c -H 'host: h1.test' -o /dev/null -o /dev/null -o /dev/null \
    -w '%{num_connects} ' "$proxy/small" "$proxy/small" "$proxy/small" | sed 's/ $//')"
  # Not over HTTP/2: curl 7.88 fails on its own second request with prior knowledge, whatever the server.
  output=$(c -i -H 'host: h1.test' "$proxy/small" "$proxy/small" "$proxy/small" | tr -d '\r')
  check upstream-connection-reuse 1 "$(grep '^x-connection' <<<"$output" | sort -u | wc -l)"
  check head-then-get-on-one-connection "hello from the origin" \
    "$(c -H 'host: h1.test' -I -o /dev/null "$proxy/small" --next -sS -H 'host: h1.test' "$proxy/small")"
}
