"""The diffusion network from scans and label maps: anatomies, new people made of them, training, its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mrharmony.core.atomic import write_text
from mrharmony.core.progress import track
from mrharmony.core.tensors import open_tensors
from mrharmony.core.worker_process import limit_threads
from mrharmony.core.workers import side_by_side, usable_cores
from mrharmony.domains.contrast import domain_voxels, fit_contrast_models
from mrharmony.domains.protocols import fit_protocol_models, save_protocol_models
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.jobs.data_sets import open_plain_scans
from mrharmony.jobs.label_heads import in_template_space
from mrharmony.jobs.training import evenly, prepared_heads, training_brains, work_folder
from mrharmony.methods.detail import fit_details
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.networks.card import STATISTICS, read_card
from mrharmony.networks.diffusion.latents import LatentSpace
from mrharmony.networks.diffusion.network import (
    INTENSITY_CENTRE,
    INTENSITY_SPREAD,
    NETWORK,
    DiffusionNetwork,
    save_network,
)
from mrharmony.networks.diffusion.training import (
    DiffusionSettings,
    VirtualSlices,
    train_diffusion_network,
)
from mrharmony.networks.settings import Widths
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.label_maps import LabelMap, read_label_map
from mrharmony.simulate.recipe import Person, Population, draw_people
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.simulate.structures import structured_anatomy, with_own_tissues
from mrharmony.space.grid import Grid

CONTRAST_SEED = 77  # of the heads and simulated scans that contrast models are fitted on
CONTRAST_PEOPLE = 6  # of these heads, on real anatomies,
CONTRAST_LABELLED = 3  # on label maps,
CONTRAST_AVERAGES = 3  # and on the average anatomy
PEOPLE = Population(age=(20, 88), patients=0.3)
# Label maps come from young and old people: their ventricles and cortex are varied less than those of scans.
LABELLED_VENTRICLES = (0.6, 1.8)
LABELLED_THINNING = 0.15
LABELLED_LESIONS_ML = 30.0


class Anatomies(NamedTuple):
    """What virtual heads are made of: the sites `only` (all if empty) of a BIDS data set, and label maps."""

    bids_dir: Path
    only: Sequence[str]
    label_maps: Sequence[Path]


def train_network(
    anatomies: Anatomies,
    settings: DiffusionSettings,
    output: Path,
    device: torch.device,
    licence: str,
    start: Path | None = None,
) -> None:
    """Train the diffusion network and write it with its card; unfinished work is in `<output>.training`.

    `licence` is a sentence for the card on weights and scans; `start` is the folder of a network to fine-tune
    (`network_of_references`), without which weights are random at first. Raises `MrharmonyError` if there is
    nothing to train on.
    """
    work = work_folder(output)
    index, label_maps = open_plain_scans(anatomies.bids_dir, "site"), anatomies.label_maps
    brains = training_brains(index, anatomies.only, None, Grid.working(STATISTICS_ZOOM), work)
    # new people: warps of the real anatomies, of all ages, some with lesions and large ventricles
    heads = _new_people(_segmented([brain for _, brain in brains.kept]) * settings.copies, settings.seed)
    heads += _labelled_people(label_maps, settings.labelled_copies, settings.seed)
    heads = [_with_own_tissues(head, number, settings.seed) for number, head in enumerate(heads)]
    known = load_scanners()
    data = VirtualSlices(heads, [known[name] for name in settings.references])
    limit_threads()  # it shares the cores with the processes that draw batches
    run = work / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
    first = network_of_references(start, data.latent_space()) if start else None
    network = train_diffusion_network(data, settings, run, device, max(usable_cores() - 1, 1), first)
    save_network(network, output, settings.references)
    write_text(output / "README.md", _card(brains.counts(), len(label_maps), len(heads), settings, licence))


def network_of_references(directory: Path, space: LatentSpace) -> DiffusionNetwork:
    """Return a network to fine-tune, from one that regressed the references' contrasts themselves.

    The shipped network began with such a one, whose file only the history of the repository holds.

    The weights that such a network lacks, of noisy latents and their level, are zero: at pure noise the new
    network gives the latents of the old one's contrasts.
    """
    with open_tensors(directory / NETWORK, "a network of references", "name another folder", "pt") as file:
        weights = {name: tensor.float() for name, tensor in file.tensors().items()}
        network = DiffusionNetwork.empty(space, file.record("channels", Widths))
    encoder, pixels = space.encoder(), network.last.out_channels // network.dimensions
    weight = weights.pop("last.weight")[:, :, 0, 0].reshape(network.references, pixels, -1)
    bias = weights.pop("last.bias").reshape(network.references, pixels) * INTENSITY_SPREAD
    centred = bias + INTENSITY_CENTRE - space.mean[:, None]
    weights["last.weight"] = torch.einsum("rd,rpc->dpc", encoder, weight * INTENSITY_SPREAD).flatten(0, 1)[
        :, :, None, None
    ]
    weights["last.bias"] = torch.einsum("rd,rp->dp", encoder, centred).flatten()
    network.load_state_dict(weights, strict=False)
    return network


def _labelled_people(label_maps: Sequence[Path], copies: int, seed: int) -> list[Anatomy]:
    """Return heads of new people, so many from each label map."""
    aligned = track(side_by_side(_aligned, label_maps, usable_cores()), "aligning", len(label_maps))
    repeated = [head for head in aligned for _ in range(copies)]
    jobs = [(seed, number, head) for number, head in enumerate(repeated)]
    return list(track(side_by_side(_labelled_head, jobs, usable_cores()), "making virtual heads", len(jobs)))


def _aligned(path: Path) -> LabelMap:
    return in_template_space(read_label_map(path))


def _labelled_head(job: tuple[int, int, LabelMap]) -> Anatomy:
    """Return a new person's head on the working grid; a job is seed, number and label map."""
    seed, number, label_map = job
    rng = np.random.default_rng([seed, 1, number])
    base = structured_anatomy(label_map, rng)
    return virtual_head(
        rng,
        Grid.working(STATISTICS_ZOOM),
        base,
        float(np.exp(rng.uniform(*np.log(LABELLED_VENTRICLES)))),
        cortical_thinning=float(rng.uniform(0, LABELLED_THINNING)),
        lesions_ml=float(rng.choice([0, rng.uniform(0.5, LABELLED_LESIONS_ML)])),
    )


def _with_own_tissues(head: Anatomy, number: int, seed: int) -> Anatomy:
    return with_own_tissues(head, np.random.default_rng([seed, 2, number]))


def contrast_heads(
    brains: Sequence[CanonicalBrain], label_maps: Sequence[Path] = (), seed: int = CONTRAST_SEED
) -> list[Anatomy]:
    """Return new virtual heads, which the network was not trained on, to fit simulated scanners' contrasts.

    Warps of real anatomies, taken evenly from all, of label maps, and of the average anatomy.
    """
    bases = _segmented(evenly(brains, CONTRAST_PEOPLE))
    people = _new_people([*bases, *[None] * CONTRAST_AVERAGES], seed)
    labelled = _labelled_people(evenly(label_maps, CONTRAST_LABELLED), 1, seed)
    return people + [_with_own_tissues(head, number, seed) for number, head in enumerate(labelled)]


def _segmented(brains: Sequence[CanonicalBrain]) -> list[Anatomy]:
    return list(track(side_by_side(_segment, brains, usable_cores()), "segmenting", len(brains)))


def _segment(brain: CanonicalBrain) -> Anatomy:
    return segment_brain(brain.volume, brain.mask)


def _new_people(bases: Sequence[Anatomy | None], seed: int) -> list[Anatomy]:
    """Return a person's head for each anatomy, None for the average one."""
    people = draw_people(np.random.default_rng(seed), PEOPLE, len(bases))
    jobs = [
        (seed, number, base, person) for number, (base, person) in enumerate(zip(bases, people, strict=True))
    ]
    return list(track(side_by_side(_person_head, jobs, usable_cores()), "making virtual heads", len(jobs)))


def _person_head(job: tuple[int, int, Anatomy | None, Person]) -> Anatomy:
    """Return a person's head on the working grid; a job is seed, number, warped anatomy and person."""
    seed, number, base, person = job
    return virtual_head(
        np.random.default_rng([seed, number]),
        Grid.working(STATISTICS_ZOOM),
        base,
        person.ventricle_scale,
        cortical_thinning=person.cortical_thinning,
        lesions_ml=person.lesions_ml,
    )


def refit_contrast_models(
    model: Path, anatomies: Anatomies, work: Path, seed: int = CONTRAST_SEED
) -> DiffusionHarmonizer:
    """Fit what is known of all domains of a model directory, and of protocols, with the shipped network.

    These are contrast models, detail, models of protocols, and the statistics of real domains; those of
    simulated scanners stay. The scans of the real domains are the sites of `anatomies`, of which the heads of
    simulated scanners are made. `work` keeps the prepared brains; `seed` is for the heads.
    """
    index, grid = open_plain_scans(anatomies.bids_dir, "site"), Grid.working(STATISTICS_ZOOM)
    real = training_brains(index, anatomies.only, None, grid, work)
    heads = contrast_heads([brain for _, brain in real.kept], anatomies.label_maps, seed)
    known = load_scanners()
    scanners = [known[domain.name] for domain in read_card(model).domains if domain.name in known]
    virtual = prepared_heads(heads, scanners, seed)
    seen = real.by_domain() | virtual
    voxels = domain_voxels(seen)
    statistics = load_statistics(model / STATISTICS) | fit_statistics(real.by_domain())
    fitted = DiffusionHarmonizer(statistics, fit_contrast_models(voxels), details=fit_details(seen))
    fitted.save(model)
    save_protocol_models(model, fit_protocol_models({name: voxels[name] for name in virtual}))
    return fitted


def _card(
    counts: dict[str, int], label_maps: int, heads: int, settings: DiffusionSettings, licence: str
) -> str:
    scans = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"""# Diffusion network

From T1w brain scans to physical latents, expected or sampled: the coordinates of a head in the space of T1w
contrasts, decoded by the signal equations. The decoder is fitted to these reference scanners:
{", ".join(settings.references)}.

- Architecture: U-Net on coronal slices of 2 mm with their neighbours, features {settings.channels}; noisy
  latents and the noise level enter in proportion to the signal. v-prediction, zero terminal SNR.
- Data: {heads} virtual people, warps of anatomies segmented from real scans ({scans}) and of {label_maps}
  label maps, seen by the reference scanners and by random ones, with random tone curves, bias, blur and
  noise. No real intensities.
- Training: {settings.steps} steps of {settings.batch} slices, seed {settings.seed}.
- Limits: research use only. Adults; T1-weighted scans; lesions as the simulation makes them, with the signal
  of cortex. Never used as an image: the anatomy lock is fitted to it.
- Licence: {licence}
"""
