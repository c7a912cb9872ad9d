"""A Slurm of one node, started by hand on this machine: munge, controller and node daemon in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

#: Where Debian's Slurm looks. Inside jobs its commands read this file: Snakemake's plugin clears SLURM_CONF there.
_CONFIGURED = Path("/etc/slurm/slurm.conf")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=5
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why Slurm cannot be started here, in words for a skipped test; empty where it can."""
    if missing := [name for name in _PROGRAMS if _program(name) is None]:
        return f"Slurm is not installed ({', '.join(missing)} missing): Debian's slurm-wlm and munge have it"
    if os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    return f"this machine has a Slurm of its own ({_CONFIGURED})" if _CONFIGURED.exists() else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


class OneNode:
    """Daemons of a one-node cluster without an accounting database.

    Args:
        folder: for state, logs and keys; its path must be short, since a socket lies in it.
        cpus, memory: what the node offers, in cores and megabytes.

    Example:
        >>> with OneNode(folder) as slurm:
        ...     slurm.run("srun", "hostname")
    """

    def __init__(self, folder: Path, cpus: int = 2, memory: int = 8000) -> None:
        self.folder = folder
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        conf = folder / "slurm.conf"
        conf.write_text(_CONF.format(host=host, folder=folder, cpus=cpus, memory=memory, ports=free_ports(2)))
        self.environment = {**os.environ, "SLURM_CONF": str(conf)}

    def __enter__(self) -> OneNode:
        _CONFIGURED.parent.mkdir(exist_ok=True)
        _CONFIGURED.unlink(missing_ok=True)  # a link that a killed run left
        _CONFIGURED.symlink_to(self.environment["SLURM_CONF"])
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log",
                 "seed-file": "munge.seed"}  # fmt: skip
        self._start("munged", "--force", *(f"--{option}={self.folder / name}" for option, name in files.items()))
        self._start("slurmctld", "-f", self.environment["SLURM_CONF"])
        self._start("slurmd", "-f", self.environment["SLURM_CONF"])
        deadline = time.monotonic() + 60
        while "idle" not in self.run("sinfo", "--noheader", "--format=%T", check=False):
            if time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(
                    f"Slurm's node did not come up: {(self.folder / 'slurmctld.log').read_text()[-2000:]}"
                )
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.run("scancel", "--user=root", check=False)
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid"):
            file = self.folder / name
            if file.is_file() and (number := file.read_text().strip()):
                _end(int(number))
        _CONFIGURED.unlink(missing_ok=True)

    def _start(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [_program(program), *arguments], env=self.environment, check=True, capture_output=True, timeout=60
        )

    def run(self, program: str, *arguments: str, check: bool = True) -> str:
        """Standard output of one of Slurm's commands."""
        command = [_program(program), *arguments]
        done = subprocess.run(command, env=self.environment, check=check, capture_output=True, text=True, timeout=120)
        return done.stdout

    def jobs(self) -> list[tuple[str, str, str]]:
        """(number, state, comment) of each job that Slurm still knows."""
        lines = self.run("squeue", "--states=all", "--noheader", "--format=%i|%T|%k").splitlines()
        return [tuple(line.split("|", 2)) for line in lines]


def _end(process: int, seconds: float = 20) -> None:
    """Ask a daemon to stop, and wait until it has."""
    deadline = time.monotonic() + seconds
    order = signal.SIGTERM
    try:
        while True:
            os.kill(process, order)
            order = 0 if time.monotonic() < deadline else signal.SIGKILL
            time.sleep(0.1)
    except ProcessLookupError:
        return


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
