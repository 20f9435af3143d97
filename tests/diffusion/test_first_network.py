"""The network that the shipped one began with: the conversion of its weights keeps what it predicted."""

from pathlib import Path

import numpy as np
import torch
from benchmarks.training._network import network_of_references

from mrharmony.core.tensors import save_tensors
from mrharmony.networks.diffusion.latents import LatentSpace
from mrharmony.networks.diffusion.network import (
    INTENSITY_CENTRE,
    INTENSITY_SPREAD,
    NETWORK,
    DiffusionNetwork,
)

REFERENCES, CHANNELS = 8, (16, 16)
OF_NOISE = ("noisy.", "level.", "mean", "basis")


def test_at_pure_noise_it_gives_the_latents_of_the_contrasts_that_the_earlier_one_gave(tmp_path: Path):
    torch.manual_seed(0)
    earlier = DiffusionNetwork(REFERENCES, REFERENCES, CHANNELS).eval()  # its outputs are contrasts
    weights = {
        name: tensor.numpy()
        for name, tensor in earlier.state_dict().items()
        if not name.startswith(OF_NOISE) and "modulation" not in name
    }
    save_tensors(tmp_path / NETWORK, weights, {"channels": CHANNELS})
    space = LatentSpace.of(np.random.default_rng(0).uniform(0, 1, (REFERENCES, 500)))
    slices, coordinates = torch.rand(2, 3, 32, 32) + 0.1, torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        contrasts = earlier(slices, coordinates) * INTENSITY_SPREAD + INTENSITY_CENTRE
        latents = network_of_references(tmp_path, space).eval()(slices, coordinates)
    assert latents.std() > 0.1
    assert torch.allclose(latents, space.encode(contrasts), atol=1e-4)
