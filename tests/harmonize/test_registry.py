"""The registry of methods: complete, quick to import, and honest about what a method lacks."""

import subprocess
import sys

import pytest

from mrharmony.core import extras
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.protocol import MethodSettings
from mrharmony.methods.registry import METHOD_NAMES, METHODS, load_method, method_named
from mrharmony.networks.translation import TranslationSettings
from mrharmony.weights import shipped_model

SLOW = {"numpy", "nibabel", "torch", "diffusers", "sklearn", "skimage", "intensity_normalization", "pandas"}
OPTIONAL = [method for method in METHODS if method.needs.extra and method.needs.package]


def test_names_and_descriptions_are_unique_and_short():
    assert len(set(METHOD_NAMES)) == len(METHODS) == 17
    assert len({method.description for method in METHODS}) == len(METHODS)
    assert max(len(method.description) for method in METHODS) <= 60


def test_help_needs_no_code_of_any_method_and_no_scan():
    script = "import sys\nimport mrharmony.cli\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())


@pytest.mark.parametrize("method", METHODS, ids=METHOD_NAMES)
def test_every_method_opens_or_tells_in_one_sentence_what_it_lacks(method):
    if method.is_in(shipped_model()):
        opened = load_method(method.name, shipped_model(), MethodSettings(device="cpu"))
        assert opened.name == method.name
        return
    with pytest.raises(MrharmonyError, match=rf"mrharmony train BIDS_DIR --method {method.name}") as error:
        load_method(method.name, shipped_model())
    assert str(shipped_model()) in str(error.value)


@pytest.mark.parametrize("method", METHODS, ids=METHOD_NAMES)
def test_methods_fitted_on_scans_have_a_fit_and_others_have_none(method):
    assert (method.implementation().fit is not None) == (method.needs.training == "scans")


@pytest.mark.parametrize("method", OPTIONAL, ids=[method.name for method in OPTIONAL])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(method, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MrharmonyError, match=rf"pip install 'mrharmony\[{method.needs.extra}\]'") as error:
        method.implementation()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings", "remedy"),
    [
        ("diffusion", MethodSettings(translation=TranslationSettings()), "Choose method='img2img'."),
        ("diffusion", MethodSettings(lock=False), "Choose method='cyclegan' or method='img2img'."),
        ("nyul", MethodSettings(extent="head"), "Leave extent='head' out."),
        ("histogram", MethodSettings(detail=True), "Choose method='diffusion', or leave detail=True out."),
    ],
)
def test_a_setting_that_a_method_does_not_take_is_refused_with_a_remedy(name, settings, remedy):
    with pytest.raises(MrharmonyError) as error:
        method_named(name).settled(settings)
    assert str(error.value).startswith(f"{name}: ")
    assert str(error.value).endswith(remedy)


def test_what_is_not_given_is_settled_by_the_method():
    settled = {m.name: m.settled(MethodSettings(seed=3)) for m in METHODS}
    assert settled["img2img"].translation == TranslationSettings(seed=3)
    locks = {name: settings.lock for name, settings in settled.items() if settings.lock is not None}
    assert locks == {"cyclegan": False, "img2img": True}


def test_the_old_name_of_the_default_method_is_read():
    assert method_named("synthesis") is method_named("diffusion")
    assert load_method("synthesis", shipped_model()).name == "diffusion"
