# The real peers and the configuration that puts towpath in front of them.

start_peers() {
  read -r proxy_port incoming_port admin_port origin_port other_port h2_port grpc_port dead_port \
    <<<"$(free_ports 8)"
  proxy=http://127.0.0.1:$proxy_port
  incoming=http://127.0.0.1:$incoming_port
  admin=http://127.0.0.1:$admin_port
  socket=$work/towpath.sock
  write_files
  start_nginx
  start_nghttpd
  start_grpc
  for port in "$origin_port" "$other_port" "$h2_port" "$grpc_port"; do
    until_true 10 port_open "$port" || { echo "no peer on port $port" >&2; exit 1; }
  done
}

write_files() {
  mkdir -p "$work"/root/{chunked,put} "$work/tmp"
  chmod -R a+rwX "$work"
  echo "hello from the origin" >"$work/root/small"
  echo "hello from the origin" >"$work/root/chunked/small"
  head -c 33554432 /dev/urandom >"$work/root/large"
  # Server-side includes read every byte, so that an answer of unknown length comes chunked.
  head -c 4194304 /dev/urandom | base64 >"$work/root/chunked/large"
}

start_nginx() {
  cat >"$work/nginx.conf" <<CONF
daemon off;
master_process off;
pid $work/nginx.pid;
error_log $work/nginx.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_temp_path $work/tmp/body;
  proxy_temp_path $work/tmp/proxy;
  fastcgi_temp_path $work/tmp/fastcgi;
  uwsgi_temp_path $work/tmp/uwsgi;
  scgi_temp_path $work/tmp/scgi;
  default_type application/octet-stream;
  root $work/root;
  server {
    listen 127.0.0.1:$origin_port;
    add_header x-origin first;
    add_header x-connection \$connection;
    add_header x-seen-host \$http_host;
    add_header x-seen-uri \$request_uri;
    add_header x-seen-via \$http_via;
    add_header x-seen-connection \$http_connection;
    add_header x-seen-custom \$http_x_custom;
    location /chunked/ { ssi on; ssi_types *; }
    location /put/ { dav_methods PUT DELETE; }
    location /status/204 { return 204; }
    location /status/304 { return 304; }
    location /status/418 { return 418 "teapot"; }
  }
  server {
    listen 127.0.0.1:$other_port;
    add_header x-origin second;
  }
}
CONF
  nginx -c "$work/nginx.conf" -p "$work" -e "$work/nginx.log" &
  started+=($!)
}

# --echo-upload: the answer to a POST is its body, so one transfer checks both directions.
start_nghttpd() {
  nghttpd --no-tls --address=127.0.0.1 --echo-upload --htdocs="$work/root" --max-concurrent-streams=64 \
    "$h2_port" >"$work/nghttpd.log" 2>&1 &
  started+=($!)
}

start_grpc() {
  "$python" "$here/grpc_server.py" "127.0.0.1:$grpc_port" >"$work/grpc_server.log" 2>&1 &
  started+=($!)
}

# write_config FILE before|after|broken: `after` sends switch.test to the second origin; `broken` has a misspelt key.
# Written beside and renamed, as a careful tool would.
write_config() {
  local target=switch-before extra=
  [ "$2" = after ] && target=switch-after
  [ "$2" = broken ] && extra='hostz = ["broken.test"]'
  cat >"$1.new" <<CONF
[node]
name = "interop"
workers = 2

[admin]
listen = "127.0.0.1:$admin_port"

[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:$proxy_port"

[[listeners]]
name = "local"
kind = "outgoing"
listen = "unix:$socket"

[[listeners]]
name = "incoming"
kind = "incoming"
listen = "127.0.0.1:$incoming_port"

[[routes]]
name = "origin"
hosts = ["h1.test"]
backends = [{ service = "origin" }]

[[routes]]
name = "origin-http2"
hosts = ["h2.test"]
backends = [{ service = "origin-http2" }]

[[routes]]
name = "grpc"
hosts = ["grpc.test"]
backends = [{ service = "grpc" }]

[[routes]]
name = "dead"
hosts = ["dead.test"]
backends = [{ service = "dead" }]

[[routes]]
name = "switch"
hosts = ["switch.test"]
$extra
backends = [{ service = "$target" }]

[[routes]]
name = "private"
listeners = ["incoming"]
hosts = ["private.test"]
backends = [{ service = "origin" }]

[[routes]]
name = "everything-else"
hosts = ["*"]
backends = [{ dns = "{host}" }]

[services.origin]
endpoints = ["127.0.0.1:$origin_port"]
protocol = "http1"

[services.origin-http2]
endpoints = ["127.0.0.1:$h2_port"]
protocol = "http2"

[services.grpc]
endpoints = ["127.0.0.1:$grpc_port"]

[services.dead]
endpoints = ["127.0.0.1:$dead_port"]

[services.switch-before]
endpoints = ["127.0.0.1:$origin_port"]

[services.switch-after]
endpoints = ["127.0.0.1:$other_port"]
CONF
  mv "$1.new" "$1"
}
