"""The command line: thin, one function a command; what it does is done elsewhere."""

from mrharmony.cli import virtual  # noqa: I001 - the order of the commands in --help
from mrharmony.cli import scans, bids, models, evaluating
from mrharmony.cli.app import app, main

__all__ = ["app", "bids", "evaluating", "main", "models", "scans", "virtual"]
