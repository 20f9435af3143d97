"""Layers that generators and discriminators share."""

from __future__ import annotations

from torch import nn

SLOPE = 0.2  # of leaky rectifiers


def norm(kind: str, channels: int) -> nn.Module:
    """Return instance normalization, or nothing.

    Instance normalization takes each channel's mean and contrast away, and with them much of what sets
    scanners apart.
    """
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


def level(kind: str, before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Return a 3×3 convolution, normalized and rectified."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), norm(kind, after), nn.ReLU())
