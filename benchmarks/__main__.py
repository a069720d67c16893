"""All benchmarks, one after the other."""

import sys

from benchmarks import answers, fairness, indexing, mail, result_backend

sys.exit(
    max(
        indexing.main(), result_backend.main(), fairness.main(), mail.main(), answers.main()
    )
)
