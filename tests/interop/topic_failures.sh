# The answers that towpath makes itself, as docs/operations/troubleshooting.md lists them.

topic_failures() {
  refusal no-route 404 no_route c -i "$incoming/small"
  refusal connect-failed 502 connect_failed c -i -H 'host: dead.test' "$proxy/small"
  refusal connect-failed-http2 502 connect_failed c -i --http2-prior-knowledge -H 'host: dead.test' "$proxy/small"
  refusal two-hosts 400 bad_request raw 'GET /small HTTP/1.1\r\nhost: h1.test\r\nhost: h2.test\r\n\r\n'
  refusal no-host 400 bad_request raw 'GET /small HTTP/1.1\r\n\r\n'
  refusal two-lengths 400 bad_request \
    raw 'POST /small HTTP/1.1\r\nhost: h1.test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'
  refusal space-before-colon 400 bad_request raw 'GET /small HTTP/1.1\r\nhost: h1.test\r\nx : y\r\n\r\n'
  refusal headers-too-large 431 headers_too_large c -i -H 'host: h1.test' \
    -H "x-large: $(head -c 90000 /dev/zero | tr '\0' a)" "$proxy/small"
  check still-serving "hello from the origin" "$(c -H 'host: h1.test' "$proxy/small")"
  check_match failures-are-counted '^towpath_errors_total\{.*reason="connect_failed"' "$(c "$admin/metrics")"
}

# Sends bytes as they are and prints everything until the connection closes, which a refusal must make happen.
raw() {
  timeout 10 "$python" -c '
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=8) as connection:
    connection.sendall(sys.argv[2].encode().decode("unicode_escape").encode("latin-1"))
    while data := connection.recv(65536):
        sys.stdout.write(data.decode("latin-1"))' "$proxy_port" "$1" 2>&1 || echo "raw exit $?"
}

# refusal NAME STATUS REASON COMMAND...: the command prints the whole answer.
refusal() {
  local name=$1 status=$2 reason=$3 answer
  shift 3
  answer=$("$@" | tr -d '\r')
  check "$name-status" "$status" "$(awk '/^HTTP/ { code = $2 } END { print code }' <<<"$answer")"
  check "$name-header" "towpath-error: $reason" "$(grep -i '^towpath-error' <<<"$answer" | tr '[:upper:]' '[:lower:]')"
  check "$name-body" "$reason" "$(grep '^{' <<<"$answer" | "$python" -c '
import json, sys
print(json.load(sys.stdin)["error"]["reason"])' 2>&1 | tail -1)"
}
