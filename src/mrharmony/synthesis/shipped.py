"""The reference network that ships with the package, and its file."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mrharmony.scans.atomic import write_bytes
from mrharmony.synthesis.network import ReferenceNetwork
from mrharmony.volume import MrharmonyError
from mrharmony.weights import shipped_references

NETWORK = "network.safetensors"


def save_network(network: ReferenceNetwork, directory: Path, references: tuple[str, ...]) -> None:
    """Write a trained network in half precision.

    Parameters
    ----------
    network, directory
        What to write, and where.
    references
        Names of its reference scanners.
    """
    tensors = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    about = {"references": json.dumps(references), "channels": json.dumps(network.channels)}
    write_bytes(directory / NETWORK, save(tensors, metadata=about))


def load_network(directory: Path) -> ReferenceNetwork:
    """Read what `save_network` wrote; ready to use, in single precision.

    Raises
    ------
    MrharmonyError
        If the file is missing, damaged or of another kind.
    """
    path = directory / NETWORK
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            network = ReferenceNetwork(
                len(json.loads(about["references"])), tuple(json.loads(about["channels"]))
            )
            network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise MrharmonyError(
            f"{path}: not a reference network ({error}); install the package again."
        ) from error
    return network.requires_grad_(False).eval()


@lru_cache(maxsize=1)
def shipped_network() -> ReferenceNetwork:
    """Return the shipped network; read once."""
    return load_network(shipped_references())


@lru_cache(maxsize=1)
def network_hash() -> str:
    """Return the SHA-256 of the shipped network's file, hexadecimal.

    Raises
    ------
    MrharmonyError
        If the file is missing.
    """
    path = shipped_references() / NETWORK
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MrharmonyError(f"{path}: cannot be read ({error}); install the package again.") from error


def reference_names() -> tuple[str, ...]:
    """Return the names of the shipped network's reference scanners."""
    with safe_open(shipped_references() / NETWORK, framework="pt") as file:
        return tuple(json.loads(file.metadata()["references"]))
