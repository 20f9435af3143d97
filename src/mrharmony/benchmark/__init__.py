"""All methods on one data set, under the same preparation and the same splits, in one table."""

from mrharmony.benchmark.contenders import DEFAULT_METHODS, METHODS
from mrharmony.benchmark.run import BenchmarkRequest, BenchmarkResult, run_benchmark
from mrharmony.benchmark.table import terminal_table

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "BenchmarkRequest",
    "BenchmarkResult",
    "run_benchmark",
    "terminal_table",
]
