"""Options of the looks: how the diffusion models are sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from mrharmony.networks.diffusion.sampling import SamplingSettings
    from mrharmony.networks.diffusion.translation import TranslationSettings


DDIB = "ddib"

Translation = Annotated[
    str | None,
    typer.Option(
        help="Of img2img: `paper` (Table 1 of Ikegami et al.), or a YAML file of settings. Of diffusion: "
        "`ddib`, which starts from the scan's own noise; it must know the source.",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        help="Of diffusion: steps of a look; 1 if not given, 4 with ddib.",
        show_default=False,
    ),
]
PromptWeight = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        help="Of diffusion: how much the target's prompt tells; 1 if not given.",
        show_default=False,
    ),
]
InputWeight = Annotated[
    float | None,
    typer.Option(
        min=0, max=100, help="Of diffusion: how much the scan tells; 1 if not given.", show_default=False
    ),
]


class SamplingOptions(NamedTuple):
    """Settings of `diffusion` and of `img2img`, each None where none of its options is given."""

    sampling: SamplingSettings | None
    translation: TranslationSettings | None


def sampling_options(
    translation: str | None,
    steps: int | None,
    prompt_weight: float | None,
    input_weight: float | None,
    seed: int,
) -> SamplingOptions:
    """Return what the options say.

    Raises
    ------
    MrharmonyError
        If one is out of its range, or a file of settings cannot be used.
    """
    from mrharmony.networks.diffusion.sampling import SamplingSettings
    from mrharmony.networks.diffusion.translation import read_translation

    ddib = translation == DDIB
    given = {"steps": steps, "prompt_weight": prompt_weight, "input_weight": input_weight}
    sampled = ddib or any(value is not None for value in given.values())
    return SamplingOptions(
        SamplingSettings.chosen(ddib, seed=seed, **given) if sampled else None,
        read_translation(translation) if translation and not ddib else None,
    )
