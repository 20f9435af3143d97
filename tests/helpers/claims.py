"""Another process at work in a folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = (
    "import sys, time, pathlib; from mrharmony.core.claims import claimed\n"
    "with claimed(pathlib.Path(sys.argv[1]), sys.argv[2]): print('held', flush=True); time.sleep(30)"
)


@contextmanager
def held_by_another(claims: Path, name: str) -> Iterator[None]:
    """Let another process hold a claim as long as the context lasts; it is then killed."""
    command = [sys.executable, "-c", _HOLD, str(claims), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield
        holder.kill()
