"""Everything that decides how a CycleGAN is built and trained, as frozen, validated settings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from mrharmony.latent.config import Settings, read_preset


class CycleGanSettings(Settings):
    """A training run for one pair of domains; docs/cyclegan.md says how the defaults were chosen."""

    slices: Literal[1, 3] = 3  # neighbouring coronal slices that are translated together
    positions: bool = False  # the networks see where in the head each pixel lies
    generator: Literal["tone", "convolutional"] = "tone"  # 1×1 convolutions and coarse surroundings, or 3×3
    channels: int = Field(32, ge=2)  # of the generators' finest level
    blocks: int = Field(1, ge=0)  # residual ones of a generator; of the convolutional one at the coarse level
    residual: bool = True  # the generators give a change of the slice, not the slice
    norm: Literal["instance", "none"] = "none"
    discriminator_channels: int = Field(16, ge=2)
    discriminator_layers: int = Field(3, ge=1)  # that halve the slice: 1 sees 10 pixels, 2 see 18, 3 see 38
    cycle_weight: float = Field(10.0, ge=0)
    identity_weight: float = Field(0.0, ge=0)
    steps: int = Field(3200, ge=1)
    batch: int = Field(4, ge=1)  # slices of each domain a step
    learning_rate: float = Field(2e-3, gt=0)
    beta2: float = Field(0.99, ge=0, lt=1)  # of Adam: the decay of its second moments
    decay_share: float = Field(0.5, ge=0, le=1)  # of the steps, in which the rate falls linearly to 0
    ema_decay: float = Field(0.998, ge=0, lt=1)
    pool: int = Field(0, ge=0)  # generated slices that the discriminators remember
    checkpoint_every: int = Field(100, ge=1)  # steps
    seed: int = Field(0, ge=0)

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset that ships with the package (`published`), or the settings that a YAML file holds.

        Raises
        ------
        MrharmonyError
            If there is no such preset or file, or it does not hold settings of a CycleGAN.
        """
        return read_preset(cls, "mrharmony.cyclegan", name)
