"""The averaged weights of a training run lie in the module only for as long as they are asked for."""

from pathlib import Path

import pytest
import torch

from mrharmony.networks.training import Training, cosine_plan


@pytest.fixture
def module() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


@pytest.fixture
def training(module: torch.nn.Linear, tmp_path: Path) -> Training:
    """A run after three of its steps."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    training = Training(
        tmp_path / "t.safetensors", module, optimizer, module.parameters(), cosine_plan(9, 1.0, 0.9, 9)
    )
    steps = training.steps("training")
    for _ in range(3):
        next(steps)
        module(torch.ones(4, 3)).square().sum().backward()
        training.update()
    return training


def test_the_average_takes_the_place_of_the_weights_for_a_while(module: torch.nn.Linear, training: Training):
    last = module.weight.detach().clone()
    with training.averaged_weights():
        assert not torch.equal(module.weight, last)
    assert torch.equal(module.weight, last)


def test_the_weights_come_back_where_their_use_fails(module: torch.nn.Linear, training: Training):
    last = module.weight.detach().clone()
    with pytest.raises(KeyError), training.averaged_weights():
        raise KeyError
    assert torch.equal(module.weight, last)
