"""Everything that decides how Stable Diffusion learns scanners from slices (Ruiz et al. 2023)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from mrharmony.networks.settings import Settings, read_preset

AXES = ("sagittal", "coronal", "axial")
FULL_RATE, LORA_RATE = 5e-6, 1e-4


class DreamBoothSettings(Settings):
    """A DreamBooth run: pictures, prompts, what is trained, for how long."""

    axis: Literal["sagittal", "coronal", "axial"] = "coronal"  # slices perpendicular to it are the pictures
    working_zoom: float = Field(1.0, ge=0.5, le=4.0)  # mm
    enlarge: int = Field(1, ge=1, le=4)  # picture pixels a voxel edge
    slices_per_scan: int = Field(10, ge=1)

    prompt: Literal["name", "token"] = "name"  # the domain's plain name, or an added token <name>
    class_prompt: str = "a brain MR image"
    prior_weight: float = Field(1.0, ge=0)  # of the class pictures' loss; 0 does without them
    class_images: int = Field(200, ge=1)
    class_steps: int = Field(50, ge=1, le=1000)
    class_guidance: float = Field(7.5, ge=0)

    method: Literal["full", "lora"] = "full"
    lora_rank: int = Field(16, ge=1)
    text_encoder: bool = False  # train it too
    structure: bool = False  # widen the U-Net by the structure's latents
    structure_dropout: float = Field(0.05, ge=0, le=1)  # of the slices; only with structure,
    prompt_dropout: float = Field(0.05, ge=0, le=1)  # because DreamBooth itself drops nothing

    steps: int = Field(1000, ge=1)
    batch: int = Field(1, ge=1)  # slices a process and pass; as many class pictures come with them
    accumulation: int = Field(1, ge=1)  # passes a step
    learning_rate: float | None = Field(None, gt=0)  # 5e-6, with LoRA 1e-4
    snr_gamma: float | None = Field(5.0, gt=0)  # min-SNR weighting (Hang et al. 2023); None weighs all alike
    ema_decay: float = Field(0.999, ge=0, lt=1)  # 0 keeps no average, which spares a copy of the weights
    gradient_checkpointing: bool = True
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: int = Field(200, ge=1)  # steps
    validate_every: int | None = Field(500, ge=1)  # steps; None makes no validation pictures
    seed: int = Field(0, ge=0)

    @property
    def rate(self) -> float:
        """The learning rate: the one that was set, or the usual one of the method."""
        return self.learning_rate or (LORA_RATE if self.method == "lora" else FULL_RATE)

    @property
    def sliced_axis(self) -> int:
        """Index of the voxel axis that the pictures are perpendicular to."""
        return AXES.index(self.axis)

    @classmethod
    def preset(cls, name: str) -> Self:
        """Load a preset that ships with the package by its name, or a YAML file by its path."""
        return read_preset(cls, "mrharmony.networks.stable", name)
