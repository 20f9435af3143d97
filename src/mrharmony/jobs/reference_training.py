"""The reference network from a BIDS data set: real anatomies, new people made of them, training, its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mrharmony.core.atomic import write_text
from mrharmony.core.progress import track
from mrharmony.core.workers import one_thread, usable_cores, worker_pool
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.jobs.inputs import open_data_set
from mrharmony.jobs.training import evenly, prepared_heads, work_folder
from mrharmony.jobs.training_brains import training_brains
from mrharmony.methods.synthesis import SynthesisHarmonizer, fit_synthesis
from mrharmony.networks.diffusion.model import STATISTICS, read_card
from mrharmony.networks.reference.network import save_network
from mrharmony.networks.reference.training import ReferenceSlices, SynthesisSettings, train_reference_network
from mrharmony.prepare.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.recipe import Person, Population, draw_people
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid

CONTRAST_SEED = 77  # of the heads and simulated scans that contrast models are fitted on
CONTRAST_PEOPLE = 8  # of these heads, on real anatomies
CONTRAST_AVERAGES = 4  # and on the average anatomy
PEOPLE = Population(age=(20, 88), patients=0.3)


def train_references(
    bids_dir: Path,
    only: Sequence[str],
    settings: SynthesisSettings,
    output: Path,
    device: torch.device,
    licence: str,
) -> None:
    """Train the reference network and write it with its card; unfinished work is kept in `<output>.training`.

    Parameters
    ----------
    bids_dir, only
        Data set with a column `site`, and the sites whose anatomies are used.
    settings
        The whole configuration.
    output
        Directory of the network.
    device
        Where to train.
    licence
        Of the weights and of the scans, a sentence for the card.

    Raises
    ------
    MrharmonyError
        If there is nothing to train on.
    """
    work = work_folder(output)
    index = open_data_set(bids_dir, "site")
    brains = training_brains(index, only, None, Grid.working(STATISTICS_ZOOM), work)
    heads = reference_heads([brain for _, brain in brains.kept], settings)
    known = load_scanners()
    data = ReferenceSlices(heads, [known[name] for name in settings.references])
    one_thread()  # it shares the cores with those who draw the batches
    network = train_reference_network(data, settings, _run(work, settings), device, usable_cores() - 1)
    save_network(network, output, settings.references)
    write_text(output / "README.md", _card(brains.counts(), len(heads), settings, licence))


def _run(work: Path, settings: SynthesisSettings) -> Path:
    """Return the folder of a run, another one for other settings."""
    return work / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]


def reference_heads(brains: Sequence[CanonicalBrain], settings: SynthesisSettings) -> list[Anatomy]:
    """Return new people: warps of the real anatomies, of all ages, some with lesions and large ventricles.

    Parameters
    ----------
    brains
        The real anatomies.
    settings
        Seed, and how many people come from each brain.
    """
    return _new_people(_segmented(brains) * settings.copies, settings.seed)


def contrast_heads(brains: Sequence[CanonicalBrain], seed: int = CONTRAST_SEED) -> list[Anatomy]:
    """Return people who did not train the network, to fit the contrast models of simulated scanners.

    Warps of real anatomies, taken evenly from all, and of the average one.
    """
    bases = _segmented(evenly(brains, CONTRAST_PEOPLE))
    return _new_people([*bases, *[None] * CONTRAST_AVERAGES], seed)


def _segmented(brains: Sequence[CanonicalBrain]) -> list[Anatomy]:
    with worker_pool(usable_cores()) as pool:
        return list(track(pool.map(_segment, brains), "segmenting", len(brains)))


def _segment(brain: CanonicalBrain) -> Anatomy:
    return segment_brain(brain.volume, brain.mask)


def _new_people(bases: Sequence[Anatomy | None], seed: int) -> list[Anatomy]:
    """Return a person's head for each anatomy, None for the average one."""
    people = draw_people(np.random.default_rng(seed), PEOPLE, len(bases))
    jobs = [(seed, number, base) for number, base in enumerate(bases)]
    with worker_pool(usable_cores()) as pool:
        return list(track(pool.map(_reference_head, jobs, people), "making virtual heads", len(people)))


def _reference_head(job: tuple[int, int, Anatomy | None], person: Person) -> Anatomy:
    """Return a person's head on the working grid; `job` is seed, number and the anatomy that is warped."""
    seed, number, base = job
    return virtual_head(
        np.random.default_rng([seed, number]),
        Grid.working(STATISTICS_ZOOM),
        base,
        person.ventricle_scale,
        cortical_thinning=person.cortical_thinning,
        lesions_ml=person.lesions_ml,
    )


def refit_contrast_models(
    model: Path, bids_dir: Path, only: Sequence[str], work: Path, seed: int = CONTRAST_SEED
) -> SynthesisHarmonizer:
    """Fit the contrast models and the detail of all domains of a model directory with the shipped network.

    The statistics of its real domains are taken anew as well; all three are written there.

    Parameters
    ----------
    model
        Directory with a card and statistics; those of simulated scanners stay.
    bids_dir, only
        The scans of its real domains, on whose anatomies the simulated scanners' heads are made as well.
    work
        Folder of the prepared brains, made if missing.
    seed
        Of these heads and their scans.
    """
    index, grid = open_data_set(bids_dir, "site"), Grid.working(STATISTICS_ZOOM)
    real = training_brains(index, only, None, grid, work)
    heads = contrast_heads([brain for _, brain in real.kept], seed)
    seen = real.by_domain() | prepared_heads(heads, _scanners_of(model), seed)
    statistics = load_statistics(model / STATISTICS) | fit_statistics(real.by_domain())
    fitted = fit_synthesis(seen, statistics)
    fitted.save(model)
    return fitted


def _scanners_of(model: Path) -> list[Scanner]:
    known = load_scanners()
    return [known[domain.name] for domain in read_card(model).domains if domain.name in known]


def _card(counts: dict[str, int], heads: int, settings: SynthesisSettings, licence: str) -> str:
    scans = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"""# Reference network

Gives what a T1w brain scan would look like on reference scanners, without noise and receive field:
{", ".join(settings.references)}.

- Architecture: U-Net on coronal slices of 2 mm with their neighbours, features {settings.channels}.
- Data: {heads} virtual people, warps of anatomies segmented from real scans ({scans}), seen by the reference
  scanners and by random ones, with random tone curves, bias, blur and noise. No real intensities.
- Training: {settings.steps} steps of {settings.batch} slices, seed {settings.seed}.
- Limits: research use only. Adults; T1-weighted scans; lesions as the simulation makes them, with the signal
  of cortex. Never used as an image: it only tells the anatomy lock what to fit.
- Licence: {licence}
"""
