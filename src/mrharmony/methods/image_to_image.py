"""The paper's method: image-to-image under the target domain's prompt; raw, or through the anatomy lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.ndimage import map_coordinates

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.domains.statistics import DomainStatistics, target_statistics
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.rendering import in_target_units, through_lock
from mrharmony.networks.diffusion.translation import PictureModel, TranslationSettings, translate_brain
from mrharmony.prepare.canonical import on_brain
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.space.grid import Grid


@dataclass(frozen=True)
class ImageToImageHarmonizer:
    """Image-to-image of a latent diffusion model (Ikegami et al.), slice by slice.

    Parameters
    ----------
    model
        Stable Diffusion, or the compact model as `CompactPictures`.
    grid
        The model's working grid.
    statistics
        Of the model's domains, by name; they give the output its units.
    settings
        Strength, steps, weights, images and seed.
    lock
        Of the fit from scan to picture; None gives the pictures themselves, which is the paper: they are
        resampled to the native grid and nothing keeps their anatomy.
    """

    model: PictureModel
    grid: Grid
    statistics: Mapping[str, DomainStatistics]
    settings: TranslationSettings
    lock: LockSettings | None = None
    name: str = "img2img"

    def pictures(self, scan: PreparedScan, target: Domain) -> tuple[Volume, ...]:
        """Return the selected pictures of a scan on the working grid, canonical units, not masked.

        Raises
        ------
        MrharmonyError
            If structure is wanted of a model without, or the scan has no brain.
        """
        brain, _ = scan.canonical(self.grid)
        return translate_brain(self.model, brain, target.prompt, self.settings)

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan, with evidence.

        Raises
        ------
        MrharmonyError
            If the model does not know the target, or all images are selected (`harmonize_all`).
        """
        if self.settings.select == "all" and self.settings.num_images_per_prompt > 1:
            raise MrharmonyError("All images are several results for one scan. Select mean or best-ssim.")
        return self.harmonize_all(scan, source, target)[0]

    def harmonize_all(
        self, scan: PreparedScan, source: Domain | None, target: Domain
    ) -> tuple[HarmonizedVolume, ...]:
        """Return a harmonized scan for each selected picture.

        With the lock and a known source the fit is relative, from the source's picture to the target's, made
        with the same noise: what the model gets wrong in both cancels, and source = target is the identity.
        Without a known source it starts from the scan as the autoencoder gives it back.
        """
        target_statistics(self.statistics, target)
        if self.lock is None:
            return tuple(self._raw(scan, picture, source, target) for picture in self.pictures(scan, target))
        if source is None:
            round_trip = self.settings.model_copy(update={"strength": 0.0, "num_images_per_prompt": 1})
            brain, _ = scan.canonical(self.grid)
            start = translate_brain(self.model, brain, "", round_trip)
            pairs = [(start[0], picture) for picture in self.pictures(scan, target)]
        else:
            pairs = list(zip(self.pictures(scan, source), self.pictures(scan, target), strict=True))
        return tuple(self._locked(scan, before, picture, source, target) for before, picture in pairs)

    def _raw(
        self, scan: PreparedScan, picture: Volume, source: Domain | None, target: Domain
    ) -> HarmonizedVolume:
        voxels = at_native_voxels(scan, picture, self.grid)
        provenance = {"method": self.name, **self._about()}
        return in_target_units(scan, voxels, source, target, self.statistics, provenance)

    def _locked(
        self, scan: PreparedScan, before: Volume, picture: Volume, source: Domain | None, target: Domain
    ) -> HarmonizedVolume:
        _, mask = scan.canonical(self.grid)
        positions = self.grid.positions()[mask]
        transform = fit_bilateral_grid(
            positions, before.voxels[mask], picture.voxels[mask], settings=self.lock
        )
        done = through_lock(scan, transform, self.name, source, target, self.statistics)
        return HarmonizedVolume(done.volume, done.scale, done.evidence, {**done.provenance, **self._about()})

    def _about(self) -> dict[str, object]:
        return {"lock": self.lock is not None, **self.settings.model_dump()}


def at_native_voxels(scan: PreparedScan, picture: Volume, grid: Grid) -> FloatArray:
    """Return a picture's intensities at the voxels of a scan's brain, 0 outside, shape of the native scan.

    Interpolated linearly: what the working grid cannot show is lost.

    Parameters
    ----------
    scan
        The prepared scan.
    picture
        Canonical units, on `grid`.
    grid
        The working grid.
    """
    voxels = grid.voxel_of(scan.positions(scan.brain_mask))
    return on_brain(scan, map_coordinates(picture.voxels, voxels.T, order=1, mode="nearest"))
