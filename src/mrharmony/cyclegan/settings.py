"""Everything that decides how a CycleGAN is built and trained, as frozen, validated settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from mrharmony.latent.config import Settings, parse_settings
from mrharmony.volume import MrharmonyError


class CycleGanSettings(Settings):
    """A training run for one pair of domains; docs/cyclegan.md says how the defaults were chosen."""

    slices: Literal[1, 3] = 3  # neighbouring coronal slices that are translated together
    channels: int = Field(24, ge=2)  # of the generators' finest level; each coarser one has twice as many
    blocks: int = Field(2, ge=0)  # residual blocks of a generator, at the coarsest level
    residual: bool = True  # the generators give a change of the slice, not the slice
    norm: Literal["instance", "none"] = "instance"
    discriminator_channels: int = Field(16, ge=2)
    discriminator_layers: int = Field(3, ge=1)  # that halve the slice: 1 sees 10 pixels, 2 see 18, 3 see 38
    cycle_weight: float = Field(10.0, ge=0)
    identity_weight: float = Field(0.0, ge=0)
    steps: int = Field(1000, ge=1)
    batch: int = Field(2, ge=1)  # slices of each domain a step
    learning_rate: float = Field(4e-3, gt=0)
    decay_share: float = Field(0.5, ge=0, le=1)  # of the steps, in which the rate falls linearly to 0
    ema_decay: float = Field(0.995, ge=0, lt=1)
    pool: int = Field(50, ge=1)  # generated slices that the discriminators remember
    checkpoint_every: int = Field(100, ge=1)  # steps
    seed: int = Field(0, ge=0)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the settings that a YAML file holds.

        Raises
        ------
        MrharmonyError
            If there is no such file, or it does not hold settings of a CycleGAN.
        """
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MrharmonyError(
                f"{path}: no such file of CycleGAN settings; name a YAML file, or leave --preset out."
            ) from error
        return parse_settings(cls, str(path), text)
