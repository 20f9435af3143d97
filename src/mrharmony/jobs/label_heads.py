"""Label maps of whole heads brought to the template, so that simulated heads can have their anatomy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.preparation.alignment import Alignment, align_to_template
from mrharmony.simulate.label_maps import FLUID, JUDGE_HEADS, LabelMap, read_label_map

# What a T1w scan shows, as far as an alignment needs it.
WHITE = ("cerebral-white-matter", "cerebellar-white-matter", "brain-stem", "pallidum")
MARGIN = 12  # voxels around the brain
GREY_LEVEL, FLUID_LEVEL = 0.7, 0.25


def judge_heads(folder: Path) -> list[LabelMap]:
    """Return the heads that are for judging only (`JUDGE_HEADS`) in template millimetres.

    Raises `MrharmonyError` if one is missing in the folder, or is no label map.
    """
    paths = [folder / name for name in JUDGE_HEADS]
    missing = next((path.name for path in paths if not path.is_file()), None)
    if missing:
        raise MrharmonyError(
            f"{folder}: holds no {missing}. Give the folder of label maps with the heads for judging: "
            f"{', '.join(JUDGE_HEADS)}."
        )
    return [in_template_space(read_label_map(path)) for path in track(paths, "aligning label maps")]


def in_template_space(label_map: LabelMap) -> LabelMap:
    """Return the brain and what lies around it, with an affine to template millimetres; it keeps its size."""
    cropped = label_map.crop(MARGIN)
    return replace(cropped, affine=align_label_map(cropped).rigid_to_template @ cropped.affine)


def align_label_map(label_map: LabelMap) -> Alignment:
    """Find the rigid motion that moves a label map's brain onto the template's, and the size of the head."""
    picture = np.full(label_map.labels.shape, GREY_LEVEL, np.float32)
    picture[label_map.where(*WHITE)] = 1
    picture[label_map.where(*FLUID)] = FLUID_LEVEL
    return align_to_template(Volume(picture, label_map.affine), label_map.brain_mask)
