"""The proxies of bench/peers: how each is started, and towpath with a configuration of many routes or services."""

import collections
import contextlib

from .processes import PROXY_CPU, running

# `port` takes HTTP/1.1, `port_h2` HTTP/2 with prior knowledge.
Proxy = collections.namedtuple("Proxy", "name pids port port_h2")


USUAL_BUFFER, LARGE_BUFFER = 16_384, 65_536  # of HAProxy: its default, and for bodies of many MiB


def command(stage, name, buffer=USUAL_BUFFER):
    """Started with the configuration in bench/peers."""
    work, programs, ports = stage.work, stage.programs, stage.ports
    if name == "nginx":
        return ["nginx", "-e", work / "proxy-nginx.log", "-p", work, "-c", stage.fill_in("nginx.conf")]
    if name == "haproxy":
        return ["haproxy", "-db", "-f", stage.fill_in("haproxy.cfg", BUFFER=buffer)]
    if name == "envoy":
        return envoy_command(stage, stage.fill_in("envoy.yaml"), 0)
    if name == "pingora":
        return [programs.pingora, f"127.0.0.1:{ports['PROXY']}", f"127.0.0.1:{ports['BACKEND_H1']}"]
    return towpath_command(stage, stage.fill_in("towpath.toml"))


def envoy_command(stage, config, number):
    """`number` keeps the shared memory of several Envoys on a host apart."""
    return [stage.programs.envoy, "--concurrency", 1, "--log-level", "warn", "--disable-hot-restart",
            "--base-id", number, "-c", config]


def towpath_command(stage, config):
    return [stage.programs.towpath, "run", "--config", config]


@contextlib.contextmanager
def started(stage, name, given=None):
    """The proxy, accepting; with another command than that of bench/peers if one is given."""
    port = stage.ports["PROXY"]
    with running(given or command(stage, name), PROXY_CPU, stage.log(name), port) as pid:
        yield Proxy(name, [pid], port, port if name == "towpath" else stage.ports["PROXY_H2"])
