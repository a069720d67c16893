"""The number of our own code in a fingerprint: raised whenever a file becomes something else."""

import hashlib
import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

from worker.providers.kreuzberg import KreuzbergParser
from worker.services.dataset import fingerprints, keywords
from worker.services.dataset.economy import NoEmbedder
from worker.services.dataset.extracting import Limits
from worker.services.dataset.forms import FormReader
from worker.services.dataset.plans import plan_of
from worker.services.dataset.stages import Stages

SAMPLES = Path(__file__).parents[3] / "worker" / "samples" / "documents"
RULES = {
    "text_model": ("custom", {"segmentation": {"separator": "\n", "max_tokens": 80}}),
    "hierarchical_model": (
        "hierarchical",
        {
            "pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": True}],
            "segmentation": {"separator": "\n\n", "max_tokens": 400},
            "subchunk_segmentation": {"max_tokens": 60},
        },
    ),
}
#: Of what the samples become. When this fails, raise ``PIPELINE`` by one and write all here: or
#: documents would go on serving what an older release made of them. After an upgrade of one of
#: the libraries it is enough to write it here: their versions are in each fingerprint.
MADE = (
    2,
    ("3.5.2", "4.10.4", "5.15.2", "3.1.0", "0.2.2", "0.33.1"),
    "eea14c6d7954d123fbc606ce183b3207016ef9954572a614ce9547c30360815a",
)


def made_of_the_samples() -> str:
    """A hash of all passages and words, by each form and both kinds of rule."""
    digest = hashlib.sha256()
    needs = SimpleNamespace(
        parser=KreuzbergParser(),
        limits=Limits(10**8, 10**8, 10**8, 200, 1000),
        batch_segments=100,
        max_parent_characters=40_000,
        question_writer=None,
    )
    for path in sorted(SAMPLES.iterdir()):
        for form, rule in product(RULES, [(None, None), *RULES.values()]):
            if rule[0] and rule is not RULES[form]:
                continue
            job = SimpleNamespace(
                name=path.name,
                size_bytes=path.stat().st_size,
                doc_form=form,
                rule_mode=rule[0],
                rules=rule[1],
            )
            reader = FormReader(job, plan_of(job), NoEmbedder(), Stages(), needs)
            with path.open("rb") as file:
                for passage in (one for batch in reader.batches(file) for one in batch):
                    texts = [passage.text, *(child.text for child in passage.children)]
                    (words,) = keywords.count([passage.text], UUID(int=7))
                    shown = [path.name, form, passage.page, texts, words.numbers, words.frequencies]
                    digest.update(json.dumps(shown).encode())
    return digest.hexdigest()


def test_what_a_file_becomes_is_known_by_the_number():
    made = (fingerprints.PIPELINE, fingerprints._library_versions(), made_of_the_samples())
    assert made == MADE, "raise worker.services.dataset.fingerprints.PIPELINE, then write it here"
