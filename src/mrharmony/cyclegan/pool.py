"""Slices generated in earlier steps, shown to a discriminator again (Shrivastava et al. 2017, 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """A pool that is part of the training's state, so that a resumed run goes on with the same one.

    Parameters
    ----------
    size
        How many images it holds; one of 0 shows the new ones alone.
    shape
        Of an image.
    """

    images: Tensor
    held: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    def exchange(self, made: Tensor, generator: torch.Generator) -> Tensor:
        """Put new images in; return as many, half of them, once the pool is full, from earlier steps.

        Parameters
        ----------
        made
            Generated images, shape (batch, ...); no gradient goes through the result.
        generator
            Of the chances.
        """
        shown = made.detach().clone()
        for number, image in enumerate(made.detach()):
            place, size = int(self.held), len(self.images)
            if place < size:
                self.images[place] = image
                self.held += 1
            elif size and float(torch.rand((), generator=generator)) < 0.5:
                place = int(torch.randint(size, (), generator=generator))
                shown[number] = self.images[place]
                self.images[place] = image
        return shown
