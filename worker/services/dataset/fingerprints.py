"""What makes a version of a document, as one hash: equal ones need not be made twice."""

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import PurePath

from shared.models.process_rule import DocForm, Mode
from worker.services.dataset.claiming import Job
from worker.services.dataset.extracting import is_table
from worker.services.dataset.needs import IndexingNeeds

#: Of our own code from the file to the rows. Raise it when the same file and rule become other
#: segments, words or children than before: all documents are made anew then, once they are asked
#: to be indexed again. ``test_fingerprints`` notices.
PIPELINE = 2
#: Whose other versions may read, cut or stem the same file otherwise.
_LIBRARIES = (
    "charset-normalizer",
    "kreuzberg",
    "pypdfium2",
    "pystemmer",
    "rjieba",
    "semantic-text-splitter",
)

#: Of a fingerprint, that say by which code it was made; edits by hand leave them.
PIPELINE_CHARACTERS = 16
#: Segments, words and tokens of a version, and the hash of its contents' hashes in order.
Sums = tuple[int, int, int, str]


def fingerprint(
    job: Job, needs: IndexingNeeds, made_version: int, dimension: int | None, sums: Sums
) -> str | None:
    """The hash of all that made a version, or would make it now.

    By the file's content and not its name, of which only the ending counts; by what the rule
    says and not which row says it. A new index of the dataset has another generation.

    Args:
        job: the document.
        needs: the settings that count.
        made_version: which version; with another one's hash it has nothing to do.
        dimension: of its vectors.
        sums: what came of it: rows that were changed behind our back do not have them.

    Returns:
        ``None`` where a result is never the same twice, or there is no file.
    """
    is_written_by_model = job.doc_form == DocForm.QUESTIONS and not is_table(job.name)
    if job.sha256 is None or is_written_by_model:
        return None
    facts = {
        "file": [job.sha256, PurePath(job.name).suffix.lower()],
        "rule": [job.rule_mode or Mode.AUTOMATIC, job.rules or {}],
        "form": [job.doc_form, job.technique, job.has_vectors and needs.keywords],
        "parents": needs.max_parent_characters,
        "embedding": [job.embedding_provider, job.embedding_model, dimension],
        "index": [job.generation, needs.vectors.at(job.vector_store).is_external],
        "version": [made_version, *sums],
    }
    rest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return _pipeline() + rest[PIPELINE_CHARACTERS:]


def is_of_this_code(job: Job) -> bool:
    """Whether the active version was made by the code that runs now."""
    return job.fingerprint is not None and job.fingerprint.startswith(_pipeline())


def _pipeline() -> str:
    facts = json.dumps([PIPELINE, *_library_versions()])
    return hashlib.sha256(facts.encode()).hexdigest()[:PIPELINE_CHARACTERS]


@cache
def _library_versions() -> tuple[str, ...]:
    return tuple(version(name) for name in _LIBRARIES)
