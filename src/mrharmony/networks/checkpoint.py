"""Training checkpoints: one safetensors file, replaced atomically, so that a kill loses nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mrharmony.core.findings import MrharmonyError

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel


def save_checkpoint(
    path: Path, step: int, module: torch.nn.Module, ema: EMAModel, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after `step` finished steps; an older checkpoint stays until the new one is on disk."""
    tensors = {f"module/{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    tensors |= {f"ema/{index}": shadow.contiguous() for index, shadow in enumerate(ema.shadow_params)}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value.contiguous() for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step), "ema_step": str(ema.optimization_step)})
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


def load_checkpoint(
    path: Path, module: torch.nn.Module, ema: EMAModel, optimizer: torch.optim.Optimizer
) -> int:
    """Restore module, EMA and optimizer; return the number of finished steps, 0 without a checkpoint."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as archive:
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
            metadata = archive.metadata()
        module.load_state_dict(_under(tensors, "module/"))
    except (SafetensorError, RuntimeError) as error:
        raise MrharmonyError(
            f"{path}: does not belong to this training run or is damaged. Delete it to start over."
        ) from error
    for index, shadow in enumerate(ema.shadow_params):
        shadow.data.copy_(tensors[f"ema/{index}"])
    ema.optimization_step = int(metadata["ema_step"])
    _restore_optimizer(optimizer, _under(tensors, "optimizer/"))
    return int(metadata["step"])


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split("/")
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
