"""A Slurm of one node, this machine, from Debian's packages `slurm-wlm` and `munge`; it needs root."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurm(Exception):
    """Why Slurm cannot be started here."""


@contextmanager
def one_node(folder: Path, cores: int = 2) -> Iterator[Mapping[str, str]]:
    """Start a Slurm whose files lie in a new folder; yields the environment that its commands need.

    It ends with the context. Raises `NoSlurm` with the reason where it cannot be started.
    """
    if missing := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        raise NoSlurm(f"{', '.join(missing)}: not installed")
    if os.geteuid() != 0:
        raise NoSlurm("only root can start it")
    environment = os.environ | {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller, node = _free_ports(2)
    host = socket.gethostname().partition(".")[0]
    conf = _CONF.format(host=host, folder=folder, controller=controller, node=node, cores=cores)
    (folder / "slurm.conf").write_text(conf)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", host],
        ):
            stack.enter_context(_daemon(command, folder, environment))
            if command[0] == "munged":
                _wait((folder / "munge.socket").exists, folder, "munged")
        _wait(lambda: _is_idle(environment), folder, "slurmctld", "slurmd")
        stack.callback(_end_jobs, environment)
        yield environment


def _path() -> str:
    """Return where programs are looked for: Debian has the daemons in `sbin`."""
    return os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _daemon(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_jobs(environment: Mapping[str, str]) -> None:
    """End what is left of all jobs: without its Slurm nobody would."""
    subprocess.run(["scancel", "--user=root"], env=environment, check=False)
    with suppress(NoSlurm):
        _wait(lambda: _is_idle(environment), Path(), seconds=10.0)


def _is_idle(environment: Mapping[str, str]) -> bool:
    asked = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"], env=environment, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == "idle"


def _wait(ready: Callable[[], bool], folder: Path, *daemons: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            said = [(folder / f"{name}.out").read_text(errors="replace").splitlines() for name in daemons]
            last = "; ".join(lines[-1] for lines in said if lines)
            raise NoSlurm(f"{' and '.join(daemons)} did not start within {seconds:.0f} s: {last}")
        time.sleep(0.1)
