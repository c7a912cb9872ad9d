"""Kernels forked from a process that has imported PyTorch and the rest: one import for many notebooks (Linux).

Importing takes three seconds of processor time, and some notebooks of a quick run compute for as long. A notebook that
is run with the socket of :func:`server` in ``CAMPANION_KERNELS`` gets a forked kernel, and without it one of its own.
"""

from __future__ import annotations

import atexit
import builtins
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from jupyter_client.manager import AsyncKernelManager

SOCKET = "CAMPANION_KERNELS"
# Not pyplot, which looks for a notebook on import and draws there.
_PRELOADED = (
    "ipykernel.kernelapp", "scipy.stats", "pandas.io.formats.style", "matplotlib.figure", "torch._dynamo",
    "campanion.cams.explain", "campanion.metrics", "campanion.models",
)  # fmt: skip


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """The environment variable by which notebooks find a server of kernels, which ends with the block; {} elsewhere."""
    if not sys.platform.startswith("linux"):  # elsewhere libraries do not survive a fork
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="campanion-") as folder:
        address = os.path.join(folder, "kernels")
        # numpy's and torch's threads, had they begun, would not exist in a fork
        variables = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        process = subprocess.Popen([sys.executable, "-m", __name__, address], env={**os.environ, **variables})
        try:
            while not os.path.exists(address) and process.poll() is None:
                time.sleep(0.02)
            yield {SOCKET: address}
        finally:
            process.terminate()
            process.wait()


class ForkedKernel:
    """A kernel that :func:`serve` forked, with what Jupyter asks of a :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], cwd: str | None, environment: dict[str, str]) -> None:
        request = json.dumps({"command": command, "cwd": cwd or os.getcwd(), "environment": environment})
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(os.environ[SOCKET])
            socket.send_fds(line, [request.encode()], [1, 2])
            self.pid = int(line.recv(32))

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            return os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        while self.poll() is None:
            time.sleep(0.02)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    terminate = partialmethod(send_signal, signal.SIGTERM)
    kill = partialmethod(send_signal, signal.SIGKILL)


class ForkingManager(AsyncKernelManager):
    """Jupyter's manager of a kernel, which comes from the server that :data:`SOCKET` names."""

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        self.provisioner.process = kernel = ForkedKernel(kernel_cmd, kw.get("cwd"), kw["env"])
        self.provisioner.pid = self.provisioner.pgid = kernel.pid
        self._reconcile_connection_info(self.provisioner.connection_info)


def manager() -> dict[str, type]:
    """What papermill needs to be told to fork its kernel; nothing where there is no server."""
    return {"kernel_manager_class": ForkingManager} if Path(os.environ.get(SOCKET, "")).is_socket() else {}


def serve(address: str) -> dict:
    """Import, then fork a kernel for each request; in the new process this returns what was requested."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets kernels that have ended
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        builtins.get_ipython = lambda: SimpleNamespace(kernel=True)  # pandas asks it how wide its tables may be
        for module in _PRELOADED:
            __import__(module)
        del builtins.get_ipython
        while True:
            line, _ = listener.accept()
            with line:
                message, files, _, _ = socket.recv_fds(line, 1 << 20, 2)
                if os.fork() == 0:
                    os.setsid()  # Jupyter signals the whole group
                    line.sendall(str(os.getpid()).encode())
                    for number, file in enumerate(files, start=1):
                        os.dup2(file, number)
                    return json.loads(message)
                for file in files:
                    os.close(file)


def become(request: dict) -> NoReturn:
    """Be the kernel that was requested, to its end."""
    import torch
    from ipykernel.kernelapp import launch_new_instance

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    sys.path = [p for p in sys.path if p]
    after = request["command"].index("ipykernel_launcher") + 1
    sys.argv = ["ipykernel_launcher", *request["command"][after:]]
    launch_new_instance()
    atexit._run_exitfuncs()
    os._exit(0)  # to take apart what the server imported would take seconds, and copy all of it first


if __name__ == "__main__":
    become(serve(sys.argv[1]))
