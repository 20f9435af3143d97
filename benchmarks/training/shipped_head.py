"""Make the whole head that ships, `simulate/anatomies/head_dseg.nii.gz`, from one of SynthSeg's label maps.

python -m benchmarks.training.shipped_head LABEL_MAPS

LABEL_MAPS is a folder of `*_dseg.nii.gz`. The head is one of `JUDGE_HEADS`, which trained nothing that ships.
Kept of it are the structures of the brain as they are, left and right together, and around them fluid, bone,
fat and other soft tissue. The face is shorn off, ears and skin are smoothed. Takes a minute.
"""

import gzip
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter

from benchmarks._shared.command import start
from mrharmony.core.volume import BoolArray, Matrix
from mrharmony.jobs.label_heads import align_label_map
from mrharmony.simulate.cohort import field_of_view
from mrharmony.simulate.label_maps import BRAIN, JUDGE_HEADS, OUTER, STRUCTURES, LabelMap, read_label_map
from mrharmony.simulate.shipped_head import SHIPPED_HEAD
from mrharmony.space.sampling import grid_positions, nearest_values

HEAD = JUDGE_HEADS[1]  # its ventricles, 27 ml, are neither small nor large
# The clusters of this map. Scalp and muscle are one cluster (507); skin (511), cord (512), eyes (506) and
# optic nerves (508) are soft tissue too; of all that, what lies right under the skin is fat.
# Marrow (516) counts as bone.
CLUSTERS: dict[str, Sequence[int]] = {
    "soft-tissue": (507, 511, 512, 506, 508, 509),
    "bone": (515, 516),
    "outer-csf": (502, 514, 530),  # vessels and sinuses, dark where blood flows
}
FAT_MM = (2.0, 5.0)  # depth below the skin's surface where soft tissue is fat
GRID = field_of_view(1.0)
SKIN_MM = 2.0  # standard deviation of the blur that smooths the skin
SMOOTH_MM = 1.0  # standard deviation of the blur that removes speckles outside the brain
# The face is what lies in front of and below a plane, in template mm: at y, all below z.
PLANE = ((75.0, -22.0), (10.0, -65.0))
LOWEST_MM = -88.0
MARGIN_MM = 8.0  # of the brain from the plane
OPENING_MM = 9.0  # radius of the ball that goes everywhere in what is left of the head: ears are thinner


def main() -> None:
    asked = start(__doc__, "label_maps", file=SHIPPED_HEAD)
    head = read_label_map(asked.label_maps / HEAD)
    to_template = align_label_map(head.crop(12)).rigid_to_template @ head.affine
    merged = _merged(head)
    kept = _on_template_axes(np.where(_without_face(head, to_template), merged, 0), to_template)
    box = find_objects((kept > 0).astype(np.int8))[0]
    affine = GRID.affine.copy()
    affine[:3, 3] += [span.start for span in box]
    image = nib.Nifti1Image(kept[box].astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    asked.file.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))
    print(f"{asked.file}: {asked.file.stat().st_size / 1024:.0f} KiB, {image.shape}")


def _without_face(head: LabelMap, to_template: Matrix) -> BoolArray:
    """Return the head without face, ears and neck, and all of the brain."""
    y, z = np.einsum("ab,bijk->aijk", to_template[1:3, :3], np.indices(head.labels.shape)) + to_template[
        1:3, 3
    ].reshape(2, 1, 1, 1)
    (y0, z0), (y1, z1) = PLANE
    slope = (z1 - z0) / (y1 - y0)
    above = (z - z0 - slope * (y - y0)) / np.hypot(1, slope)  # mm from the plane
    brain = head.where(*BRAIN)
    if (nearest := float(above[brain].min())) < MARGIN_MM:
        raise SystemExit(f"the plane passes {nearest:.1f} mm from the brain; move it")
    kept = (head.labels > 0) & (above > 0) & (z > LOWEST_MM)
    return brain | _opened(gaussian_filter(kept.astype(np.float32), SKIN_MM / head.zooms[0]) > 0.5, head)


def _on_template_axes(labels: NDArray[np.int16], to_template: Matrix) -> NDArray[np.int16]:
    """Return the labels at the nearest voxel of each of a grid along the axes of the template."""
    places = grid_positions(GRID.shape, GRID.affine)
    return nearest_values(labels, to_template, places).reshape(GRID.shape)


def _opened(mask: BoolArray, head: LabelMap) -> BoolArray:
    """Return what a ball of `OPENING_MM` reaches within a mask."""
    inner = distance_transform_edt(mask, sampling=head.zooms) > OPENING_MM
    return np.asarray(distance_transform_edt(~inner, sampling=head.zooms) <= OPENING_MM)


def _merged(head: LabelMap) -> NDArray[np.int16]:
    """Return one label a structure, and outside the brain those of `OUTER`, without speckles."""
    labels, zooms = head.labels, head.zooms
    kinds = {name: np.isin(labels, clusters) for name, clusters in CLUSTERS.items()}
    depth = distance_transform_edt(labels > 0, sampling=zooms)
    under_skin = kinds["soft-tissue"] & (depth > FAT_MM[0]) & (depth <= FAT_MM[1])
    kinds["fat"] = under_skin
    kinds["soft-tissue"] &= ~under_skin
    fluid = head.where("outer-csf") | kinds.pop("outer-csf")
    outside = ~head.where(*BRAIN) & ~fluid
    names = ["", *kinds]
    maps = [labels == 0, *kinds.values()]
    likely = np.stack([gaussian_filter(one.astype(np.float32), SMOOTH_MM / zooms[0]) for one in maps])
    codes = np.array([OUTER[name] if name else 0 for name in names])
    merged = np.where(outside, codes[likely.argmax(axis=0)], 0)
    for name, known in STRUCTURES.items():
        if name != "outer-csf":
            merged[head.where(name)] = known[0]
    merged[fluid] = STRUCTURES["outer-csf"][0]
    return np.asarray(merged, np.int16)


if __name__ == "__main__":
    main()
