"""What was seen of scans for the page of a group, kept in `OUT/logs` so that unchanged images stay closed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from mrharmony.core.atomic import read_json, write_json
from mrharmony.core.findings import NotWritten
from mrharmony.core.version import __version__
from mrharmony.evaluate.group_measures import BINS, FEATURES, Measured, MeasuredPair
from mrharmony.jobs.group_images import WHOLE_HEAD, ImagePair, Look, look_at_all
from mrharmony.jobs.records import LOGS, file_state
from mrharmony.jobs.result_names import group_file
from mrharmony.scans.sidecar import source_file

FILE = "looks.json"
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


class _File(BaseModel, frozen=True):
    looks: dict[str, _Kept]


def look_once(pairs: Sequence[ImagePair], out_dir: Path, label: str = "") -> list[Look]:
    """Return what is to be seen of scans, as `look_at_all`; only what is new or changed is looked at.

    Source and result count as unchanged while size and times are the same. The looks are kept for the next
    call where `out_dir` has a folder of records, for each label of a target in a file of its own. Looks at
    which something was amiss are not kept.
    """
    file, names = group_file(out_dir / LOGS, FILE, label), [_name(pair, out_dir) for pair in pairs]
    states, known = [_state(pair) for pair in pairs], _read(file)
    kept = {
        name: entry
        for name, pair, state in zip(names, pairs, states, strict=True)
        if (entry := known.get(name)) and entry.state == state and (entry.picture or not pair.pictured)
    }
    new = [number for number, name in enumerate(names) if name not in kept]
    fresh = dict(zip(new, look_at_all([pairs[number] for number in new]), strict=True))
    looks = [
        fresh[number] if number in fresh else kept[name].look(pictured=pair.pictured)
        for number, (name, pair) in enumerate(zip(names, pairs, strict=True))
    ]
    kept |= {
        names[number]: _Kept.of(states[number], look)
        for number, look in fresh.items()
        if (look.measured and not look.remark) or look.remark == WHOLE_HEAD
    }
    if fresh and file.parent.is_dir():
        with suppress(NotWritten):  # the next call looks again
            write_json(file, _File(looks=kept).model_dump(mode="json"))
    return looks


def _name(pair: ImagePair, out_dir: Path) -> str:
    """Return a name for a scan in the file, also of paths that are not UTF-8."""
    return quote(os.fsencode(pair.sidecar.relative_to(out_dir)))


def _state(pair: ImagePair) -> str:
    """Return a hash of all that a look depends on: program, sidecar, and the states of both images."""
    source = source_file(pair.sidecar, pair.note)
    files = [file_state(pair.sidecar.with_suffix(".nii.gz")), source and file_state(source)]
    decisive = (_FORMAT, __version__, pair.note, files)
    return hashlib.sha256(repr(decisive).encode()).hexdigest()


def _read(file: Path) -> dict[str, _Kept]:
    """Return the looks that an earlier call kept; none where the file is missing or damaged."""
    try:
        return _File.model_validate(read_json(file)).looks
    except ValidationError:
        return {}
