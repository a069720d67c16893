"""All benchmarks, one after another; 1 when one of them misses its target."""

import sys

from benchmarks import answers, fairness, indexing, result_backend

sys.exit(max(indexing.main(), result_backend.main(), fairness.main(), answers.main()))
