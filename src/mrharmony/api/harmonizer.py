"""`Harmonizer`: from images to harmonized images, in the manner of scikit-learn and diffusers."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import nibabel as nib
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from mrharmony.api.images import Image, load, prepare, prepare_loaded
from mrharmony.api.paths import as_path
from mrharmony.api.result import HarmonizedScan
from mrharmony.core.arguments import as_list, require_names
from mrharmony.core.domain import Domain, require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.temporaries import temporary_folder
from mrharmony.core.volume import BoolArray
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_prepared
from mrharmony.jobs.opening import method_provenance, named_domain, open_method
from mrharmony.jobs.training import model_card
from mrharmony.methods.protocol import Device, Extent, MethodSettings
from mrharmony.methods.protocol import Harmonizer as FittedMethod
from mrharmony.methods.registry import DEFAULT_METHOD, fit_method, load_method, method_named
from mrharmony.networks.card import (
    ModelCard,
    model_hash,
    read_card,
    require_nothing_at,
    require_outside,
    save_card,
    write_directory,
)
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.sidecar import Provenance
from mrharmony.simulate.protocol import Protocol
from mrharmony.space.grid import Grid
from mrharmony.weights import shipped_model


class NotFitted(MrharmonyError, NotFittedError):  # type: ignore[misc]
    """A harmonizer is used before it is fitted or loaded; an error of scikit-learn too."""


class Harmonizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Makes T1-weighted brain scans of any scanner look as if another scanner had taken them.

    Load the shipped model or one of your own with `from_pretrained`, or fit a method to scans of your sites
    with `fit`. `harmonize` takes one scan and returns the image with its evidence; `transform` takes many.
    It is a scikit-learn estimator: `get_params`, `clone` and `Pipeline` work. As there, a parameter that is
    set later holds from the next `fit` or `from_pretrained`; until then `harmonize` refuses. `target` holds
    at once.

    Parameters
    ----------
    method
        Name of a method; `mrharmony.methods.registry.METHODS` describes them all.
    target
        Domain or protocol that `transform` harmonizes to where its call names none.
    seed
        Of everything random; at least 0.
    extent
        `brain` sets all voxels outside the brain to 0, `head` keeps the rest of the head.
    device
        Where the networks of `img2img` run: `auto`, `cpu` or `cuda`; other methods run on the processor.
        `cuda` is refused where there is no GPU.

    Attributes
    ----------
    domains_ : tuple of str
        The domains that a fitted harmonizer knows.
    model_ : Path or None
        The model directory that it was loaded from; None where it was fitted here.

    Examples
    --------
    A virtual head of one simulated scanner, harmonized to another:

    >>> import mrharmony
    >>> image = mrharmony.virtual_scan("spgr-1.5t", zoom=4.0)
    >>> harmonizer = mrharmony.Harmonizer.from_pretrained()
    >>> result = harmonizer.harmonize(image, target="mprage-3t")
    >>> result.image.shape == image.shape
    True
    """

    card_: ModelCard
    fitted_: FittedMethod
    provenance_: Provenance
    model_: Path | None
    _opened_with: dict[str, Any]

    def __init__(
        self,
        method: str = DEFAULT_METHOD,
        *,
        target: str | Protocol | None = None,
        seed: int = 0,
        extent: Extent = "brain",
        device: Device = "auto",
    ) -> None:
        self.method = method
        self.target = target
        self.seed = seed
        self.extent = extent
        self.device = device

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, **parameters: str | int | Protocol | None
    ) -> Self:
        """Return a harmonizer that is ready to use.

        Parameters
        ----------
        model
            Directory of `save_pretrained`, `mrharmony train` or `mrharmony adapt`; the shipped model if None.
        parameters
            Those of the class.

        Raises
        ------
        MrharmonyError
            If the directory is no path or no model, is damaged, or does not hold what the method needs; or a
            parameter is impossible or not one that the method takes.

        Examples
        --------
        >>> import mrharmony
        >>> "NSK" in mrharmony.Harmonizer.from_pretrained().domains_
        True
        """
        harmonizer = cls()
        known = harmonizer.get_params()
        if unknown := next((name for name in parameters if name not in known), None):
            raise MrharmonyError(f"{unknown}: no parameter of a harmonizer. Choose from: {', '.join(known)}.")
        harmonizer.set_params(**parameters)
        directory = shipped_model() if model is None else as_path(model, "model")
        harmonizer.card_ = read_card(directory)
        harmonizer.model_ = directory.absolute()
        opened = open_method(directory, harmonizer.method, harmonizer._settings())
        harmonizer.fitted_, harmonizer.provenance_ = opened
        harmonizer._opened_with = harmonizer._opening()
        return harmonizer

    def fit(self, images: Sequence[Image | PreparedScan], domains: Sequence[str]) -> Self:
        """Fit the method to scans of several domains; the default method needs one scan of each.

        Parameters
        ----------
        images
            T1-weighted scans, as `mrharmony.load` or `mrharmony.prepare` have them.
        domains
            Site, scanner or protocol of each scan: text, or whole numbers.

        Raises
        ------
        ScanRefused
            If a scan is broken.
        MrharmonyError
            If images and domains are no lists or differ in number, a domain is missing (None, NaN, empty) or
            cannot be told from another, a scan holds no plausible brain, a parameter is impossible, or the
            method cannot be fitted to these scans or trains networks (`mrharmony train`).

        Examples
        --------
        >>> import mrharmony
        >>> scans = [mrharmony.virtual_scan(name, zoom=4.0) for name in ("mprage-3t", "spgr-1.5t")]
        >>> own = mrharmony.Harmonizer("histogram").fit(scans, ["A", "B"])
        >>> own.domains_
        ('A', 'B')
        """
        given, names = as_list("images", images), require_names("domains", as_list("domains", domains))
        if len(given) != len(names):
            raise MrharmonyError(f"domains: {len(names)} names for {len(given)} images. Give one each.")
        require_distinct(dict.fromkeys(names))
        method = method_named(self.method)
        if method.needs.training != "scans":
            raise MrharmonyError(
                f"{self.method}: is not fitted from images in memory. Train it with `mrharmony train`, then "
                "load it with from_pretrained()."
            )
        settings = method.settled(self._settings())
        grid = Grid.working(STATISTICS_ZOOM)
        brains: dict[str, list[CanonicalBrain]] = {}
        for number, (image, domain) in enumerate(zip(given, names, strict=True)):
            with _numbered(number):
                scan = image if isinstance(image, PreparedScan) else prepare(image)
            brains.setdefault(domain, []).append(CanonicalBrain(*scan.canonical(grid), scan.scale))
        with temporary_folder() as folder:  # as from_pretrained opens it, so that all settings hold
            fit_method(self.method, brains).save(folder)
            self.fitted_ = load_method(self.method, folder, settings)
        self.card_ = model_card({name: len(found) for name, found in brains.items()})
        self.provenance_ = method_provenance(settings)
        self.model_ = None
        self._opened_with = self._opening()
        return self

    @property
    def domains_(self) -> tuple[str, ...]:
        """Names of the domains that are known: targets, and sources that a scan can be said to come from."""
        self._require_fit()
        return tuple(domain.name for domain in self.card_.domains)

    def harmonize(
        self,
        image: Image | PreparedScan,
        target: str | Protocol | None = None,
        source: str | Protocol | None = None,
        *,
        brain_mask: Image | BoolArray | None = None,
        assume_ras: bool = False,
    ) -> HarmonizedScan:
        """Return a scan harmonized to a domain, on its own voxel grid, with evidence.

        Bit for bit what `mrharmony harmonize` writes. A result whose verdict is `fail` is returned
        all the same: look at `result.evidence`.

        Parameters
        ----------
        image
            A T1-weighted scan, as `mrharmony.load` takes it, or one that `mrharmony.prepare` returned.
        target
            Domain to harmonize to, one of `domains_`; or a T1w protocol, of which no scans are needed: the
            path of a BIDS sidecar (`protocol.json`), a sentence like `mprage 3T TR=2300 TI=900 TE=3 FA=9`,
            or a `Protocol`. The harmonizer's own `target` if None.
        source
            Domain that the scan comes from, if it is known and among `domains_`; or its protocol.
        brain_mask
            As in `mrharmony.prepare`; a prepared scan has its own.
        assume_ras
            As in `mrharmony.load`.

        Raises
        ------
        ScanRefused
            If the scan is broken.
        MrharmonyError
            If the scan or the mask is no image, a domain is unknown, a protocol cannot be read or the method
            does not take it, the scan holds no plausible brain, the mask does not fit it, or a parameter but
            `target` was set after the harmonizer was fitted or loaded.
        sklearn.exceptions.NotFittedError
            If the harmonizer has not been fitted or loaded; it is a `MrharmonyError` too.

        Examples
        --------
        >>> import mrharmony
        >>> harmonizer = mrharmony.Harmonizer.from_pretrained()
        >>> scan = mrharmony.prepare(mrharmony.virtual_scan("spgr-1.5t", zoom=4.0))
        >>> [harmonizer.harmonize(scan, to).evidence.verdict for to in ("NSK", "LA")]  # doctest: +ELLIPSIS
        ['...', '...']
        """
        job = self._job(target, source)
        if isinstance(image, PreparedScan):
            if brain_mask is not None:
                raise MrharmonyError("brain_mask: a prepared scan has its own. Leave brain_mask out.")
            read = load(image.native)
            scan, prepared = replace(read, findings=image.remarks or read.findings), image
        else:
            scan = load(image, assume_ras=assume_ras)
            prepared = prepare_loaded(scan, brain_mask, seed=0)
        harmonized = harmonize_prepared(job, prepared, scan.findings)
        findings = job.findings + scan.findings + prepared.findings + harmonized.findings
        # A file rounds the affine to float32; what came from memory keeps its own.
        origin = image.native if isinstance(image, PreparedScan) else image
        affine = getattr(origin, "affine", scan.volume.affine)
        return HarmonizedScan(scan, prepared, replace(harmonized, findings=findings), job, affine)

    def transform(
        self,
        images: Sequence[Image | PreparedScan],
        target: str | Protocol | None = None,
        sources: Sequence[str | Protocol | None] | None = None,
    ) -> list[nib.Nifti1Image]:
        """Return scans harmonized to one domain; a result whose verdict is `fail` comes with a warning.

        Parameters
        ----------
        images, target
            As in `harmonize`, for each.
        sources
            Domain that each scan comes from, None where it is unknown; all unknown if not given.

        Raises
        ------
        MrharmonyError
            As `harmonize`, with a note of the image's number; or if images and sources are no lists or
            differ in number.
        """
        given = as_list("images", images)
        known = [None] * len(given) if sources is None else as_list("sources", sources)
        if len(known) != len(given):
            raise MrharmonyError(f"sources: {len(known)} for {len(given)} images. Give one each.")
        harmonized = []
        for number, (image, source) in enumerate(zip(given, known, strict=True)):
            with _numbered(number):
                result = self.harmonize(image, target, source)
            if result.evidence.verdict == "fail":
                faults = result.evidence.faults()
                warnings.warn(f"images[{number}]: the verdict is fail: {faults}. Look at it.", stacklevel=2)
            harmonized.append(result.image)
        return harmonized

    def save_pretrained(self, directory: Path | str) -> Path:
        """Write a model directory that `from_pretrained` and `mrharmony harmonize --model` read.

        Raises
        ------
        MrharmonyError
            If something but an empty folder stands there already, it cannot be written, the directory is no
            path, or the directory that the model was loaded from has changed since, or would change now.
        """
        self._require_fit()
        directory = as_path(directory, "directory")
        require_nothing_at(directory)
        loaded_from = self.model_
        if loaded_from and loaded_from.is_dir():
            require_outside(directory, loaded_from)

        def write(folder: Path) -> None:
            if loaded_from:
                if loaded_from.is_dir():
                    shutil.copytree(loaded_from, folder, dirs_exist_ok=True)
                if model_hash(folder) != self.provenance_.model_sha256:
                    raise MrharmonyError(
                        f"{loaded_from}: is gone, or was changed since this model was loaded from it. "
                        "Restore it, or call from_pretrained() again."
                    )
            else:
                save_card(self.card_, folder)
                self.fitted_.save(folder)

        write_directory(directory, write)
        return directory

    def _settings(self) -> MethodSettings:
        return MethodSettings(seed=self.seed, device=self.device, extent=self.extent)

    def _job(self, target: str | Protocol | None, source: str | Protocol | None) -> HarmonizeJob:
        self._require_fit()
        self._require_unchanged()
        target = self.target if target is None else target
        if target is None:
            raise MrharmonyError(f"target: name the domain to harmonize to: {', '.join(self.domains_)}.")
        origin = None if source is None else self._domain("source", source)
        domain = self._domain("target", target)
        return HarmonizeJob(self.fitted_, origin, domain, self.provenance_, extent=self.extent)

    def _domain(self, argument: str, said: object) -> Domain:
        """Return the domain or protocol that a caller means, `MrharmonyError` where it can be neither."""
        said = str(said) if isinstance(said, Path) else said
        if not isinstance(said, Protocol) and not (isinstance(said, str) and said.strip()):
            raise MrharmonyError(
                f"{argument}: {said!r:.60} is neither a domain nor a protocol. Give one of: "
                f"{', '.join(self.domains_)}; or a protocol as a sentence, a sidecar's path or a Protocol."
            )
        return named_domain(self.card_, said, self.method)

    def _opening(self) -> dict[str, Any]:
        """Return the parameters that hold from fitting or loading on."""
        return {name: value for name, value in self.get_params().items() if name != "target"}

    def _require_unchanged(self) -> None:
        changed = [name for name, value in self._opening().items() if value != self._opened_with[name]]
        if changed:
            raise MrharmonyError(
                f"{', '.join(changed)}: set after fit() or from_pretrained(), where that takes effect. Call "
                "fit() again, or from_pretrained() with the new value."
            )

    def _require_fit(self) -> None:
        if not hasattr(self, "fitted_"):
            raise NotFitted("This Harmonizer knows no domains. Call fit() or from_pretrained() first.")


@contextmanager
def _numbered(number: int) -> Iterator[None]:
    """Note on an error which of several images it is about."""
    try:
        yield
    except MrharmonyError as error:
        error.add_note(f"This is about images[{number}].")
        raise
