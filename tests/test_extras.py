"""What an extra brings and is missing: one sentence names the package and the extra."""

from __future__ import annotations

import importlib.util

import pytest

from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.adapting import adapt_on_bids
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.training import train_on_bids
from mrharmony.methods.registry import METHODS
from mrharmony.networks.settings import AdaptationSettings, DreamBoothSettings, TrainingSettings
from mrharmony.scans.dicom import convert_dicom
from mrharmony.weights import shipped_model

OPTIONAL = {"transformers", "accelerate", "peft", "tensorboard", "ants", "intensity_normalization"}
OPTIONAL |= {"neuroCombat", "dcm2niix"}


@pytest.fixture(autouse=True)
def core_only(monkeypatch):
    """Nothing but the core is installed."""
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "mrharmony.core.extras.find_spec", lambda name: None if name in OPTIONAL else there(name)
    )


def test_a_package_that_is_there_raises_nothing():
    require_extra("rivals", "numpy")


@pytest.mark.parametrize("method", [method for method in METHODS if method.needs.extra == "rivals"])
def test_a_rival_names_its_extra(method):
    with pytest.raises(MrharmonyError, match=r"needs the package .*mrharmony\[rivals\]"):
        method.implementation()


def test_training_adapting_and_dicom_name_their_extra(tmp_path):
    data = DataSet(tmp_path, "site", (), None)
    with pytest.raises(MrharmonyError, match=r"tensorboard.*mrharmony\[train\]"):
        train_on_bids(data, tmp_path / "model", TrainingSettings.preset("quick"), "cpu")
    with pytest.raises(MrharmonyError, match=r"peft.*mrharmony\[train\]"):
        adapt_on_bids(data, shipped_model(), tmp_path / "model", AdaptationSettings(steps=1), "cpu")
    with pytest.raises(MrharmonyError, match=r"transformers.*mrharmony\[stable-diffusion\]"):
        adapt_on_bids(data, "a/b", tmp_path / "model", DreamBoothSettings.preset("lora"), "cpu")
    (tmp_path / "dicom").mkdir()
    with pytest.raises(MrharmonyError, match=r"dcm2niix.*mrharmony\[dicom\]"):
        convert_dicom(tmp_path / "dicom", tmp_path / "out")
