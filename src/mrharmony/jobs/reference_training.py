"""The reference network from a BIDS data set: real anatomies, new people made of them, training, its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mrharmony.core.atomic import write_text
from mrharmony.core.progress import track
from mrharmony.core.workers import one_thread, side_by_side, usable_cores
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.jobs.data_sets import open_data_set
from mrharmony.jobs.training import evenly, prepared_heads, training_brains, work_folder
from mrharmony.methods.synthesis import SynthesisHarmonizer, fit_synthesis
from mrharmony.networks.compact.model import STATISTICS, read_card
from mrharmony.networks.diffusion.network import save_network
from mrharmony.networks.diffusion.training import ReferenceSlices, SynthesisSettings, train_reference_network
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.recipe import Person, Population, draw_people
from mrharmony.simulate.scanner import load_scanners
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

    The anatomies are those of the sites `only` (all if empty) in the column `site` of the data set; `licence`
    is a sentence for the card on weights and scans. Raises `MrharmonyError` if there is nothing to train on.
    """
    work = work_folder(output)
    index = open_data_set(bids_dir, "site")
    brains = training_brains(index, only, None, Grid.working(STATISTICS_ZOOM), work)
    # new people: warps of the real anatomies, of all ages, some with lesions and large ventricles
    heads = _new_people(_segmented([brain for _, brain in brains.kept]) * settings.copies, settings.seed)
    known = load_scanners()
    data = ReferenceSlices(heads, [known[name] for name in settings.references])
    one_thread()  # it shares the cores with the processes that draw batches
    run = work / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
    network = train_reference_network(data, settings, run, device, usable_cores() - 1)
    save_network(network, output, settings.references)
    write_text(output / "README.md", _card(brains.counts(), len(heads), settings, licence))


def contrast_heads(brains: Sequence[CanonicalBrain], seed: int = CONTRAST_SEED) -> list[Anatomy]:
    """Return new virtual heads, which the network was not trained on, to fit simulated scanners' contrasts.

    Warps of real anatomies, taken evenly from all, and of the average one.
    """
    bases = _segmented(evenly(brains, CONTRAST_PEOPLE))
    return _new_people([*bases, *[None] * CONTRAST_AVERAGES], seed)


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
    return list(track(side_by_side(_reference_head, jobs, usable_cores()), "making virtual heads", len(jobs)))


def _reference_head(job: tuple[int, int, Anatomy | None, Person]) -> Anatomy:
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
    model: Path, bids_dir: Path, only: Sequence[str], work: Path, seed: int = CONTRAST_SEED
) -> SynthesisHarmonizer:
    """Fit the contrast models and the detail of all domains of a model directory with the shipped network.

    The statistics of its real domains are computed again too, those of simulated scanners stay; all three are
    written to `model`. The scans of the real domains are the sites `only` in `bids_dir`; the heads of
    simulated scanners are made of their anatomies. `work` keeps the prepared brains; `seed` is for the heads.
    """
    index, grid = open_data_set(bids_dir, "site"), Grid.working(STATISTICS_ZOOM)
    real = training_brains(index, only, None, grid, work)
    heads = contrast_heads([brain for _, brain in real.kept], seed)
    known = load_scanners()
    scanners = [known[domain.name] for domain in read_card(model).domains if domain.name in known]
    seen = real.by_domain() | prepared_heads(heads, scanners, seed)
    statistics = load_statistics(model / STATISTICS) | fit_statistics(real.by_domain())
    fitted = fit_synthesis(seen, statistics)
    fitted.save(model)
    return fitted


def _card(counts: dict[str, int], heads: int, settings: SynthesisSettings, licence: str) -> str:
    scans = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"""# Reference network

Predicts a T1w brain scan on reference scanners, without noise and receive field:
{", ".join(settings.references)}.

- Architecture: U-Net on coronal slices of 2 mm with their neighbours, features {settings.channels}.
- Data: {heads} virtual people, warps of anatomies segmented from real scans ({scans}), seen by the reference
  scanners and by random ones, with random tone curves, bias, blur and noise. No real intensities.
- Training: {settings.steps} steps of {settings.batch} slices, seed {settings.seed}.
- Limits: research use only. Adults; T1-weighted scans; lesions as the simulation makes them, with the signal
  of cortex. Never used as an image: the anatomy lock is fitted to it.
- Licence: {licence}
"""
