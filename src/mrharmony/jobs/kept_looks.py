"""What was seen of scans for the page of a group, kept in `OUT/logs` so that unchanged images stay closed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from mrharmony.core.atomic import read_json, write_json
from mrharmony.core.findings import NotWritten
from mrharmony.core.version import __version__
from mrharmony.evaluate.group_measures import BINS, FEATURES, Measured, MeasuredPair
from mrharmony.jobs.group_images import WHOLE_HEAD, ImagePair, Look, look_at_all, look_at_pair
from mrharmony.jobs.records import LOGS, LOOKS, file_state
from mrharmony.scans.sidecar import source_file

_FORMAT = 1  # changes with what is measured and shown


class _Figures(BaseModel, frozen=True, allow_inf_nan=False):
    """Figures of one image, as `Measured` has them."""

    histogram: Annotated[tuple[float, ...], Field(min_length=BINS, max_length=BINS)]
    features: Annotated[tuple[float, ...], Field(min_length=FEATURES, max_length=FEATURES)]
    fluid_ml: float

    @classmethod
    def of(cls, measured: Measured) -> _Figures:
        histogram, features = measured.histogram.tolist(), measured.features.tolist()
        return cls(histogram=histogram, features=features, fluid_ml=measured.fluid_ml)

    def measured(self) -> Measured:
        return Measured(np.array(self.histogram), np.array(self.features, np.float32), self.fluid_ml)


class _Kept(BaseModel, frozen=True):
    """A look at a scan; `state` stands for all that it depends on."""

    state: str
    before: _Figures | None
    after: _Figures | None
    picture: Annotated[str, Field(pattern=r"^data:image/webp;base64,[A-Za-z0-9+/=]*$")] | None

    @classmethod
    def of(cls, state: str, look: Look) -> _Kept:
        pair = look.measured
        before = _Figures.of(pair.before) if pair and pair.before else None
        return cls(
            state=state, before=before, after=_Figures.of(pair.after) if pair else None, picture=look.picture
        )

    def look(self, *, pictured: bool) -> Look:
        """Return the look, which is without measures only where a whole head was seen."""
        picture = self.picture if pictured else None
        if self.after is None:
            return Look(None, picture, WHOLE_HEAD)
        before = self.before.measured() if self.before else None
        return Look(MeasuredPair(before, self.after.measured()), picture)


def look_once(pairs: Sequence[ImagePair], out_dir: Path) -> list[Look]:
    """Return what is to be seen of scans, as `look_at_all`; only what is new or changed is looked at.

    Source and result count as unchanged while size and times are the same. Looks are kept for the next call
    where `out_dir` has a folder of records. Those at which something was amiss are not.
    """
    states = [_state(pair) for pair in pairs]
    kept = [_read(pair, state, out_dir) for pair, state in zip(pairs, states, strict=True)]
    new = [number for number, look in enumerate(kept) if look is None]
    fresh = dict(zip(new, look_at_all([pairs[number] for number in new]), strict=True))
    for number, look in fresh.items():
        _keep(pairs[number], states[number], look, out_dir)
    return [look or fresh[number] for number, look in enumerate(kept)]


def look_ahead(pair: ImagePair, out_dir: Path) -> None:
    """Look at a scan that has just been made, for the page that will be asked for, and keep what is seen."""
    _keep(pair, _state(pair), look_at_pair(pair), out_dir)


def _path(pair: ImagePair, out_dir: Path) -> Path:
    return out_dir / LOGS / LOOKS / pair.sidecar.relative_to(out_dir)


def _state(pair: ImagePair) -> str:
    """Return a hash of all that a look depends on: program, sidecar, and the states of both images."""
    source = source_file(pair.sidecar, pair.note)
    files = [file_state(pair.sidecar.with_suffix(".nii.gz")), source and file_state(source)]
    decisive = (_FORMAT, __version__, pair.note, files)
    return hashlib.sha256(repr(decisive).encode()).hexdigest()


def _read(pair: ImagePair, state: str, out_dir: Path) -> Look | None:
    """Return the kept look, if it is whole, of these very files, and has the picture that is wanted."""
    content = read_json(_path(pair, out_dir))
    if content is None:
        return None
    with suppress(ValidationError):
        kept = _Kept.model_validate(content)
        if kept.state == state and (kept.picture or not pair.pictured):
            return kept.look(pictured=pair.pictured)
    return None


def _keep(pair: ImagePair, state: str, look: Look, out_dir: Path) -> None:
    """Write a look, where there is a folder of records and nothing was amiss."""
    whole = (look.measured and not look.remark) or look.remark == WHOLE_HEAD
    if whole and (out_dir / LOGS).is_dir():
        with suppress(NotWritten):  # the next call looks again
            write_json(_path(pair, out_dir), _Kept.of(state, look).model_dump(mode="json"))
