"""All benchmarks, one after another; 1 when one of them misses its target."""

import sys

from benchmarks import answers, fairness, indexing, mail, result_backend, traces

_ALL = (indexing, result_backend, fairness, mail, traces, answers)

sys.exit(max([one.main() for one in _ALL]))
