"""A document becomes passages, by its form: text, parents with children, questions with answers."""

from collections.abc import Iterator
from typing import BinaryIO

from shared.errors import EmptyFile
from shared.models import DocumentStatus
from shared.models.process_rule import DocForm
from worker.providers.embedder import Embedder
from worker.providers.parser import Block
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import EmbeddedPassage, Lookup, embed_parents, embed_passages
from worker.services.dataset.extracting import extract, extract_rows, is_table
from worker.services.dataset.families import Families
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.plans import Plan
from worker.services.dataset.questions import pairs_of_passages, pairs_of_table
from worker.services.dataset.splitting import Passage, split
from worker.services.dataset.stages import Stages


class FormReader:
    """Reads one document as its form wants it, and embeds what is to be embedded of it.

    Args:
        job: the document.
        plan: how to clean and cut it.
        embedder: its dataset's.
        stages: noted as the pieces pass.
        needs: parser, limits, and who writes questions.
    """

    def __init__(
        self, job: Job, plan: Plan, embedder: Embedder, stages: Stages, needs: IndexingNeeds
    ) -> None:
        self._job = job
        self._plan = plan
        self._embedder = embedder
        self._stages = stages
        self._needs = needs

    def batches(self, file: BinaryIO) -> Iterator[list[Passage]]:
        """The document's passages, about ``needs.batch_segments`` texts to embed at a time.

        Raises:
            EmptyFile: nothing is left to embed.
            UnreadableFile: (permanent) and its kin.
        """
        batch: list[Passage] = []
        texts = 0
        is_empty = True
        for passage in self._passages(file):
            self._stages.reach(DocumentStatus.SPLITTING)
            batch.append(passage)
            texts += len(passage.children) or 1
            is_empty = False
            if texts >= self._needs.batch_segments:
                yield batch
                batch, texts = [], 0
        self._stages.over(DocumentStatus.SPLITTING)
        if batch:
            yield batch
        if is_empty:
            raise EmptyFile(
                f"{self._job.name} holds no text that its process rule leaves: "
                "upload a file with text in it, or change the rule"
            )

    def embed(self, passages: list[Passage], lookup: Lookup) -> list[EmbeddedPassage]:
        """The passages with what is embedded of them, in one call of the model.

        Raises:
            ServiceUnavailable: (transient) the provider does not answer.
        """
        embed = embed_parents if self._plan.form is DocForm.HIERARCHICAL else embed_passages
        return embed(passages, self._plan.embedded, self._embedder, lookup)

    def _passages(self, file: BinaryIO) -> Iterator[Passage]:
        if self._plan.form is DocForm.QUESTIONS:
            return self._pairs(file)
        if self._plan.form is DocForm.HIERARCHICAL:
            return self._parents(self._cleaned(file))
        return self._split(self._cleaned(file))

    def _split(self, blocks: Iterator[Block]) -> Iterator[Passage]:
        plan = self._plan
        return split(blocks, plan.segments, self._embedder.count_tokens, plan.finish)

    def _parents(self, blocks: Iterator[Block]) -> Iterator[Passage]:
        plan = self._plan
        families = Families(plan.children, self._embedder.count_tokens, plan.finish)
        if plan.is_whole:
            return families.whole_documents(blocks, self._needs.max_parent_characters)
        return families.paragraphs(blocks, plan.segments)

    def _pairs(self, file: BinaryIO) -> Iterator[Passage]:
        job = self._job
        if not is_table(job.name):
            writer = self._needs.question_writers(job.tenant_id, job.document_id)
            yield from pairs_of_passages(self._split(self._cleaned(file)), job.name, writer)
            return
        rows = extract_rows(file, job.name, job.size_bytes, self._needs.limits)
        for pair in pairs_of_table(rows, job.name, self._clean_cell):
            self._stages.reach(DocumentStatus.CLEANING)
            yield pair
        self._stages.over(DocumentStatus.PARSING)
        self._stages.over(DocumentStatus.CLEANING)

    def _clean_cell(self, text: str) -> str:
        return self._plan.finish(self._plan.prepare(text))

    def _cleaned(self, file: BinaryIO) -> Iterator[Block]:
        job, needs = self._job, self._needs
        for block in extract(file, job.name, job.size_bytes, needs.limits, needs.parser):
            self._stages.reach(DocumentStatus.CLEANING)
            yield Block(self._plan.prepare(block.text), block.is_markdown, block.page)
        self._stages.over(DocumentStatus.PARSING)
        self._stages.over(DocumentStatus.CLEANING)
