"""What stands during the whole run: the directory of generated files, the ports, the backends."""

import contextlib
import pathlib
import shutil
import tempfile

from .clients import MIB
from .install import BENCH
from .processes import REST_CPU, free_ports, running

PORTS = ["BACKEND_H1", "BACKEND_H2", "BACKEND_OTHER", "BACKEND_UPLOADS", "BACKEND_GRPC", "PROXY", "PROXY_H2", "ADMIN"]
MANY = 30  # backend ports for services of which there are many
GRPC_MESSAGE = b"\0\0\0\0\x08question"  # not compressed, 8 bytes


class Stage:
    """Options, programs, ports, files; the results so far."""

    def __init__(self, options, programs, results, work, open_files):
        self.options, self.programs, self.results, self.work = options, programs, results, work
        ports = free_ports(len(PORTS) + MANY)
        self.ports = dict(zip(PORTS, ports))
        self.many = ports[len(PORTS):]
        self.nginx_maximum = None  # requests/s, once known
        self.names = dict(self.ports, WORK=work, OPEN_FILES=open_files, CONNECTIONS=min(12_000, open_files),
                          MANY_LISTENS="\n".join(f"    listen 127.0.0.1:{port};" for port in self.many))

    def fill_in(self, template, **more):
        """A file of bench/peers with its @NAMES@ filled in; its path."""
        text = (BENCH / "peers" / template).read_text()
        for name, value in {**self.names, **more}.items():
            text = text.replace(f"@{name}@", str(value))
        return self.write(template, text)

    def write(self, name, content):
        """A generated file; written beside and renamed, so that no half of it is ever read."""
        target = self.work / name
        fresh = self.work / f"{name}.fresh"
        fresh.write_text(content) if isinstance(content, str) else fresh.write_bytes(content)
        fresh.rename(target)
        return target

    def log(self, name):
        return self.work / f"{name}.out"


@contextlib.contextmanager
def stage(options, programs, results, open_files):
    """A stage with its backends running. Logs are kept when something goes wrong."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="towpath-bench."))
    work.chmod(0o755)  # nginx's worker is another user than its master
    try:
        made = Stage(options, programs, results, work, open_files)
        (work / "files").mkdir()
        (work / "files" / "10MiB").write_bytes(b"x" * 10 * MIB)
        made.write("call", GRPC_MESSAGE)
        nginx = ["nginx", "-e", work / "backend.log", "-p", work, "-c", made.fill_in("backend.conf")]
        address = "127.0.0.1:{}".format
        tools = [programs.backend, address(made.ports["BACKEND_UPLOADS"]), address(made.ports["BACKEND_GRPC"])]
        with running(nginx, REST_CPU, made.log("backend"), made.ports["BACKEND_H1"]):
            with running(tools, REST_CPU, made.log("backend-tools"), made.ports["BACKEND_GRPC"]):
                yield made
    except BaseException:
        print(f"logs and configurations are in {work}", flush=True)
        raise
    shutil.rmtree(work)
