"""Generated configurations: many routes, many services, and what a mesh would give to each sidecar."""

PATHS_OF_A_HOST = 10
SERVICES_CALLED = 200
ENDPOINTS = 5

TOWPATH_HEAD = """[node]
name = "bench"
workers = 1

[admin]
listen = "127.0.0.1:{admin}"

[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:{proxy}"
"""


def towpath_head(stage):
    return TOWPATH_HEAD.format(admin=stage.ports["ADMIN"], proxy=stage.ports["PROXY"])


def route_turns(count):
    """`HOST PATH` for each of `count` routes: ten path prefixes on each host. Their order mixes hosts and paths."""
    turns = [f"host-{n // PATHS_OF_A_HOST}.bench /part-{n % PATHS_OF_A_HOST}/item" for n in range(count)]
    step = 7919 if count > 7919 else 1  # a prime: neighbours in the file are no neighbours in time
    return [turns[n * step % count] for n in range(count)]


def towpath_routes(stage, count, changed_to_other=False):
    """`count` routes to one service; the last one may lead to the other backend."""
    parts = [towpath_head(stage)]
    for n in range(count):
        service = "other" if changed_to_other and n == count - 1 else "http1"
        parts.append(f"""
[[routes]]
name = "route-{n}"
hosts = ["host-{n // PATHS_OF_A_HOST}.bench"]
match = [{{ path_prefix = "/part-{n % PATHS_OF_A_HOST}" }}]
backends = [{{ service = "{service}" }}]
""")
    for name, port in (("http1", "BACKEND_H1"), ("other", "BACKEND_OTHER")):
        parts.append(f'\n[services.{name}]\nendpoints = ["127.0.0.1:{stage.ports[port]}"]\nprotocol = "http1"\n')
    return "".join(parts)


def nginx_routes(stage, count, changed_to_other=False):
    """The same in nginx: a server for each host, a location for each path."""
    head, _, _ = stage.fill_in("nginx.conf").read_text().partition("  upstream uploads")
    parts = [head.replace("http {", "http {\n  server_names_hash_max_size 65536;\n  server_names_hash_bucket_size 128;", 1)]
    parts.append(f"  upstream other {{ server 127.0.0.1:{stage.ports['BACKEND_OTHER']}; keepalive 128; }}\n")
    for host in range(0, count, PATHS_OF_A_HOST):
        parts.append(f"  server {{\n    listen 127.0.0.1:{stage.ports['PROXY']} backlog=4096;\n" if not host else
                     f"  server {{\n    listen 127.0.0.1:{stage.ports['PROXY']};\n")
        parts.append(f"    server_name host-{host // PATHS_OF_A_HOST}.bench;\n")
        for n in range(host, min(host + PATHS_OF_A_HOST, count)):
            upstream = "other" if changed_to_other and n == count - 1 else "http1"
            parts.append(f"    location /part-{n % PATHS_OF_A_HOST}/ {{ proxy_pass http://{upstream}; }}\n")
        parts.append("  }\n")
    return "".join(parts) + "}\n"


def towpath_services(stage, count):
    """`count` services of five endpoints, a route to each. The first ones have real endpoints and are called; the
    addresses of the others are all different and never connected to."""
    parts = [towpath_head(stage)]
    for n in range(count):
        parts.append(f'\n[[routes]]\nname = "route-{n}"\nhosts = ["service-{n}.bench"]\n'
                     f'backends = [{{ service = "service-{n}" }}]\n')
        if n < SERVICES_CALLED:
            addresses = [f"127.0.0.1:{port}" for port in stage.many[:ENDPOINTS]]
        else:
            addresses = [f"127.{1 + e}.{n // 250}.{1 + n % 250}:8080" for e in range(ENDPOINTS)]
        quoted = ", ".join(f'"{address}"' for address in addresses)
        parts.append(f'\n[services.service-{n}]\nendpoints = [{quoted}]\nprotocol = "http1"\n')
    return "".join(parts)


def service_turns():
    return [f"service-{n}.bench /" for n in range(SERVICES_CALLED)]


def towpath_mesh(stage, services):
    """The one towpath of a host whose workloads call these services: (name, port) each."""
    parts = [towpath_head(stage)]
    for name, port in services:
        parts.append(f'\n[[routes]]\nname = "{name}"\nhosts = ["{name}.bench"]\nbackends = [{{ service = "{name}" }}]\n'
                     f'\n[services.{name}]\nendpoints = ["127.0.0.1:{port}"]\nprotocol = "http1"\n')
    return "".join(parts)


def sidecar(port, services):
    """The Envoy of one workload: its outbound listener, and only the services that this workload calls."""
    hosts = "".join(f"""
            - name: {name}
              domains: ["{name}.bench"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: {name}, timeout: 60s }} }}]""" for name, _ in services)
    clusters = "".join(f"""
  - name: {name}
    type: STATIC
    lb_policy: LEAST_REQUEST
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {at} }} }} }} }}] }}]"""
                       for name, at in services)
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return f"""static_resources:
  listeners:
  - name: outbound
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/{manager}
          stat_prefix: outbound
          codec_type: AUTO
          route_config:
            virtual_hosts:{hosts}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:{clusters}
"""
