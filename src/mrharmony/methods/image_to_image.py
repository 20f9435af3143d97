"""The paper's method: image-to-image under the target domain's prompt; raw, or through the anatomy lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mrharmony.core.domain import Domain
from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.domains.statistics import DomainStatistics, load_statistics, target_statistics
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import HarmonizedVolume, MethodSettings
from mrharmony.methods.rendering import at_native_voxels, in_target_units, render
from mrharmony.networks.card import STATISTICS, read_card
from mrharmony.networks.compact.model import load_model
from mrharmony.networks.settings import choose_device
from mrharmony.networks.translation import PictureModel, TranslationSettings, translate_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid


@dataclass(frozen=True)
class ImageToImageHarmonizer:
    """Image-to-image of a latent diffusion model (Ikegami et al.), slice by slice.

    Parameters
    ----------
    model
        Stable Diffusion, or the compact model.
    grid
        The model's working grid.
    statistics
        Of the model's domains, by name; they give the output its units.
    settings
        Strength, steps, weights, images and seed.
    lock
        Of the fit from scan to picture; None gives the pictures themselves, which is the paper: they are
        resampled to the native grid and nothing keeps their anatomy.
    volume_corrected
        Whether the model knows brains of the template's size alone: scans are grown for it, and back.
    """

    model: PictureModel
    grid: Grid
    statistics: Mapping[str, DomainStatistics]
    settings: TranslationSettings
    lock: LockSettings | None = None
    volume_corrected: bool = False
    name: str = "img2img"

    def pictures(self, scan: PreparedScan, target: Domain) -> tuple[Volume, ...]:
        """Return the selected pictures of a scan on the working grid, canonical units, not masked."""
        brain, _ = scan.canonical(self.grid, corrected_volume=self.volume_corrected)
        return translate_brain(self.model, brain, target.prompt, self.settings)

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; refuses where all images are selected (`harmonize_all`)."""
        self._require_one()
        return self._all_intensities(scan, source, target)[0]

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`; refuses where all images are selected (`harmonize_all`)."""
        self._require_one()
        return self.harmonize_all(scan, source, target)[0]

    def harmonize_all(
        self, scan: PreparedScan, source: Domain | None, target: Domain
    ) -> tuple[HarmonizedVolume, ...]:
        """Return a harmonized scan for each selected picture."""
        provenance = {"method": self.name, "lock": self.lock is not None, **self.settings.model_dump()}
        return tuple(
            in_target_units(scan, voxels, source, target, self.statistics, provenance)
            for voxels in self._all_intensities(scan, source, target)
        )

    def save(self, directory: Path) -> None:
        """Refuse: the method runs the diffusion model of a directory and has nothing of its own."""
        raise MrharmonyError(f"{directory}: img2img learns nothing. Copy the directory of its model.")

    def _require_one(self) -> None:
        if self.settings.select == "all" and self.settings.num_images_per_prompt > 1:
            raise MrharmonyError("All images are several results for one scan. Select mean or best-ssim.")

    def _all_intensities(
        self, scan: PreparedScan, source: Domain | None, target: Domain
    ) -> tuple[FloatArray, ...]:
        """Return canonical intensities on the native grid for each selected picture.

        With the lock and a known source the fit is relative, from the source's picture to the target's, made
        with the same noise: what the model gets wrong in both cancels, and source = target is the identity.
        Without a known source it starts from the scan as the autoencoder gives it back.
        """
        target_statistics(self.statistics, target)
        scan = scan.grown() if self.volume_corrected else scan
        if self.lock is None:
            return tuple(at_native_voxels(scan, p, self.grid) for p in self.pictures(scan, target))
        brain, mask = scan.canonical(self.grid)
        if source is None:
            round_trip = self.settings.model_copy(update={"strength": 0.0, "num_images_per_prompt": 1})
            start = translate_brain(self.model, brain, "", round_trip)[0]
            pairs = [(start, picture) for picture in self.pictures(scan, target)]
        else:
            pairs = list(zip(self.pictures(scan, source), self.pictures(scan, target), strict=True))
        positions = self.grid.positions()[mask]
        return tuple(
            render(
                scan,
                fit_bilateral_grid(positions, before.voxels[mask], after.voxels[mask], settings=self.lock),
            )
            for before, after in pairs
        )


def load_image_to_image(directory: Path, settings: MethodSettings) -> ImageToImageHarmonizer:
    """Return the method with a directory's model, an adapted Stable Diffusion or a compact one.

    With the lock unless `settings.lock` is False.
    """
    card, place = read_card(directory), choose_device(settings.device)
    model: PictureModel
    if card.dreambooth is None:
        model = load_model(directory).to(place)
    else:
        require_extra("stable-diffusion", "transformers")
        from mrharmony.networks.stable.model import load_adapted  # noqa: PLC0415 - takes seconds to import

        model = load_adapted(directory)[0].to(place)
    return ImageToImageHarmonizer(
        model,
        Grid.working(card.working_zoom),
        load_statistics(directory / STATISTICS),
        settings.translation or TranslationSettings(seed=settings.seed),
        None if settings.lock is False else LockSettings(),
        card.dreambooth is not None and card.dreambooth.volume_corrected,
    )
