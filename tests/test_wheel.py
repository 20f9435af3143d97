"""The wheel, installed as containers do, does the main job with the core dependencies alone, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from importlib.metadata import distribution, distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src", "container")
INSTALL = "container/install.sh"

SCRIPT = """
import sys
from importlib import metadata
from importlib.abc import MetaPathFinder
from pathlib import Path

class Missing(MetaPathFinder):
    "What the core does not bring is not there."
    names = set({missing!r})
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
of_name = metadata.Distribution.from_name
def from_name(name):
    if name in {unknown!r}:
        raise metadata.PackageNotFoundError(name)
    return of_name(name)
metadata.Distribution.from_name = from_name
import mrharmony
assert "site-packages" in mrharmony.__file__ and {root!r} not in mrharmony.__file__, mrharmony.__file__
image = mrharmony.virtual_scan("flash-1.5t-thick", zoom=4.0)
Path("study/sub-1/anat").mkdir(parents=True)
image.to_filename("study/sub-1/anat/sub-1_T1w.nii.gz")
from mrharmony.cli.app import main
sys.argv = ["mrharmony", "prepare", "study", "prepared"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
mask = "prepared/sub-1/anat/sub-1_desc-brain_mask.nii.gz"
result = mrharmony.Harmonizer.from_pretrained().harmonize(image, target="mprage-3t", brain_mask=mask)
assert result.image.shape == image.shape and (result.image.affine == image.affine).all()
print(mrharmony.__version__, result.save("out.nii.gz"))
"""


def needed(requirements: list[str] | None) -> list[str]:
    """Return the names of what is required without any extra."""
    parsed = [Requirement(text) for text in requirements or []]
    return [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def core_distributions(environment: Path) -> set[str]:
    """Return the names of what the wheel brings without an extra, dependencies of dependencies included."""
    (packages,) = (environment / "env" / "lib").glob("python*/site-packages")
    (wheel,) = distributions(name="mrharmony", path=[str(packages)])
    found: set[str] = set()
    waiting = needed(wheel.requires)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        waiting += needed(distribution(name).requires)
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as a container's, but what the wheel needs is seen through a path file."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files beside the sources
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in SOURCES:
        copy = partial(shutil.copytree, ignore=ignored) if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    settings = {"PYTHON": sys.executable, "PIP_PYTHON": str(python), "PIP_NO_DEPS": "1", "TORCH_INDEX": ""}
    install = ["sh", source / INSTALL, source]
    subprocess.run(install, check=True, env=_without_python_path() | settings)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def _without_python_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _offline() -> list[str]:
    """Return the words that start a command without a network, where the system lets us."""
    words = ["unshare", "--net"]
    works = shutil.which("unshare") and subprocess.run([*words, "true"], check=False).returncode == 0
    return words if works else []


def run(environment: Path, *arguments: str | Path) -> str:
    """Run the environment's Python outside the repository, offline, and return what it prints."""
    command = [*_offline(), environment / "env" / "bin" / "python", "-I", *arguments]
    done = subprocess.run(command, cwd=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs_on_the_core_dependencies_alone(environment):
    core = core_distributions(environment)
    owners = packages_distributions()
    missing = sorted(
        module
        for module, names in owners.items()
        if not {canonicalize_name(name) for name in names} & core and module != "mrharmony"
    )
    assert {"transformers", "peft", "ants", "dcm2niix", "pytest"} <= set(missing)
    installed = {name for names in owners.values() for name in names} - {"mrharmony"}
    unknown = sorted(name for name in installed if canonicalize_name(name) not in core)
    script = SCRIPT.format(missing=missing, unknown=unknown, root=str(ROOT / "src"))
    printed = run(environment, "-c", script)
    assert printed.splitlines()[-1].split()[1] == "out.nii.gz"
    assert (environment / "out.json").is_file()
    assert (environment / "prepared" / "sub-1" / "anat" / "sub-1_desc-brain_mask.nii.gz").is_file()


def test_the_command_and_the_module_agree_on_the_version(environment):
    command = environment / "env" / "bin" / "mrharmony"
    done = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True, env=_without_python_path()
    )
    of_module = run(environment, "-c", "import mrharmony; print(mrharmony.__version__)")
    assert done.stdout.split() == ["mrharmony", of_module.strip()]


def test_the_wheel_holds_weights_scanners_and_templates(environment):
    script = (
        "from importlib.resources import files; p = files('mrharmony'); "
        "print(*(x.is_file() for x in (p / 'py.typed', p / 'weights/diffusion/network.safetensors', "
        "p / 'simulate/scanners/mprage-3t.yaml', p / 'report/templates/base.html.j2')))"
    )
    assert run(environment, "-c", script).split() == ["True"] * 4


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_containers_install_what_is_installed_here(name: str):
    words = (ROOT / name).read_text("utf-8").split()
    assert set(SOURCES) <= set(words)
    assert f"/opt/source/{INSTALL}" in words
    if name == "Dockerfile":
        assert words[words.index("USER") + 1] == "mrharmony"
