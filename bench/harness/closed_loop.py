"""Loads whose clients send the next request when the last is answered: the CPU that a request costs the proxy."""

from . import many
from .clients import MIB, h2load, run_h2load, run_wrk, wrk
from .cost import cpu_seconds, memory_kib
from .proxies import LARGE_BUFFER, command, started, towpath_command

WARM_SECONDS = 1  # connections to the backend are open, code is paged in
CALLS_OF_A_WARM_SECOND = 15_000  # at least: each route is called once before the cost of calling it is measured
BODY_MIB = 10


def measured(stage, proxy, run, warm=WARM_SECONDS):
    """(metrics, what the client did) of `run(seconds)`, which has been run before to warm up."""
    run(warm)
    before = cpu_seconds(proxy.pids)
    done = run(stage.options.seconds)
    user, system = (b - a for a, b in zip(before, cpu_seconds(proxy.pids)))
    each = 1e6 / max(done.requests, 1)
    return {"requests": done.requests, "failed": done.failed, "us_per_request": (user + system) * each,
            "user_us": user * each, "system_us": system * each,
            "requests_per_second": done.requests / done.seconds}, done


def by_wrk(stage, contender, given=None, **options):
    with started(stage, contender, given) as proxy:
        return measured(stage, proxy, lambda seconds: run_wrk(wrk(proxy.port, seconds, **options), seconds))


def by_h2load(stage, contender, **options):
    with started(stage, contender) as proxy:
        return measured(stage, proxy, lambda seconds: run_h2load(h2load(proxy.port_h2, seconds, **options), seconds))[0]


def http1(stage, contender):
    return by_wrk(stage, contender)[0]


def post(stage, contender):
    return by_wrk(stage, contender, method="POST", body=1024, path="/upload")[0]


def http2(stage, contender):
    return by_h2load(stage, contender)


def grpc(stage, contender):
    return by_h2load(stage, contender, path="/bench.Echo/Call", body_file=stage.work / "call")


def download(stage, contender):
    metrics, done = large(stage, contender, path="/10MiB")
    return per_mib(metrics, done.bytes / MIB, done.seconds)


def upload(stage, contender):
    metrics, done = large(stage, contender, path="/upload/large", method="POST", body=BODY_MIB * MIB)
    return per_mib(metrics, done.requests * BODY_MIB, done.seconds)


def large(stage, contender, **options):
    return by_wrk(stage, contender, command(stage, contender, LARGE_BUFFER), connections=8, **options)


def per_mib(metrics, mib, seconds):
    cpu = metrics["us_per_request"] * metrics["requests"]
    return dict(metrics, us_per_mib=cpu / max(mib, 1), mib_per_second=mib / seconds)


def new_connections(stage, contender):
    return by_wrk(stage, contender, close=True)[0]


def routes(stage, contender):
    """The contender's name has the number of routes, and how many of them are called if it is not all."""
    count, *called = map(int, contender.removeprefix("towpath ").split(" calling "))
    config = stage.write(f"routes-{count}.toml", many.towpath_routes(stage, count))
    turns = many.route_turns(count)[: called[0] if called else count]
    return with_memory(stage, config, stage.write("turns", "\n".join(turns) + "\n"), len(turns))


def services(stage, contender):
    config = stage.write("services.toml", many.towpath_services(stage, stage.options.services))
    turns = many.service_turns()
    return with_memory(stage, config, stage.write("turns", "\n".join(turns) + "\n"), len(turns))


def with_memory(stage, config, turns, count):
    """towpath with this configuration, many hosts called in turn; also what it occupies before and after."""
    with started(stage, "towpath", towpath_command(stage, config)) as proxy:
        before = memory_kib(proxy.pids)
        warm = WARM_SECONDS + count // CALLS_OF_A_WARM_SECOND
        metrics, _ = measured(stage, proxy, lambda seconds: run_wrk(wrk(proxy.port, seconds, turns=turns), seconds), warm)
        return dict(metrics, unused_kib=before, used_kib=memory_kib(proxy.pids))
