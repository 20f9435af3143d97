"""CycleGAN on a data set: pairs of its domains, trained into a directory that may hold others already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.inputs import open_data_set
from mrharmony.jobs.training import TrainingReport, model_card, work_folder
from mrharmony.jobs.training_brains import training_brains
from mrharmony.methods.cyclegan import require_pairs, train_cyclegan
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.devices import choose_device
from mrharmony.networks.diffusion.model import CARD, ModelCard, read_card, save_card
from mrharmony.prepare.canonical import STATISTICS_ZOOM
from mrharmony.space.grid import Grid


def train_pairs_on_bids(
    bids_dir: Path,
    output: Path,
    pairs: Sequence[tuple[str, str]],
    domain_column: str,
    settings: CycleGanSettings,
    device: str,
    prepared: Path | None = None,
) -> TrainingReport:
    """Train a model for each pair of domains; what is not finished is kept in `<output>.training`.

    Parameters
    ----------
    bids_dir, domain_column
        The data set, and the column that names the domain.
    output
        Model directory, new or with pairs of the same data set, which stay.
    pairs
        Names of domains, two by two.
    settings
        Of each training.
    device
        `auto`, `cpu` or `cuda`.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.

    Raises
    ------
    MrharmonyError
        If there is nothing to train on, or the directory belongs to other scans.
    """
    require_pairs(pairs)
    index, place = open_data_set(bids_dir, domain_column), choose_device(device)
    names, work = list(dict.fromkeys(name for pair in pairs for name in pair)), work_folder(output)
    brains = training_brains(index, names, None, Grid.working(STATISTICS_ZOOM), work, prepared)
    card = _joined(output, model_card(brains.counts(), (), None, bids_dir), bids_dir)
    method = train_cyclegan(brains.by_domain(), pairs, settings, work, place)
    save_card(card, output)
    method.save(output)
    return TrainingReport(output, brains.counts(), brains.refused)


def _joined(output: Path, card: ModelCard, bids_dir: Path) -> ModelCard:
    """Return the card of a directory with new domains; refuse one whose domains were learned from others."""
    if not (output / CARD).is_file():
        return card
    earlier = read_card(output)
    counts = {domain.name: domain.scans for domain in earlier.domains}
    new = {domain.name: domain.scans for domain in card.domains}
    joined = model_card(counts | new, (), None, bids_dir)
    alike = all(counts.get(name, count) == count for name, count in new.items())
    if not alike or earlier != model_card(counts, (), None, bids_dir):
        raise MrharmonyError(f"{output}: holds methods fitted on other scans. Choose another output.")
    return joined
