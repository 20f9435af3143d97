import torch

from mrharmony.networks.compact.networks import build_scheduler
from mrharmony.networks.compact.training import draw_times
from mrharmony.networks.training import schedule_share, step_generator


def test_the_last_training_time_is_pure_noise():
    scheduler = build_scheduler()
    clean, noise = torch.rand(1, 4, 5, 5), torch.randn(1, 4, 5, 5)
    noisy = scheduler.add_noise(clean, noise, torch.tensor([999]))
    assert torch.allclose(noisy, noise, atol=1e-6)
    assert torch.allclose(scheduler.get_velocity(clean, noise, torch.tensor([999])), -clean, atol=1e-6)


def test_sampling_starts_at_the_last_training_time_whatever_the_number_of_steps():
    scheduler = build_scheduler()
    for steps in (1, 2, 3, 50, 1000):
        scheduler.set_timesteps(steps)
        assert int(scheduler.timesteps[0]) == 999
        assert len(scheduler.timesteps) == steps


def test_the_wanted_share_of_times_is_pure_noise():
    times = draw_times(4000, 0.5, build_scheduler(), torch.Generator().manual_seed(0))
    assert 0.45 < (times == 999).float().mean() < 0.55


def test_the_learning_rate_warms_up_and_ends_near_zero():
    assert schedule_share(0, 1000) < 0.05
    assert schedule_share(60, 1000) > 0.9
    assert schedule_share(999, 1000) < 1e-4


def test_every_step_has_its_own_replayable_randomness():
    def draw(stage: str, step: int) -> float:
        return float(torch.rand(1, generator=step_generator(0, stage, step)))

    assert draw("denoiser", 5) == draw("denoiser", 5)
    assert len({draw("denoiser", 5), draw("denoiser", 6), draw("autoencoder", 5)}) == 3
