"""Small pages of one message are read and parsed together, ahead of their turns.

Each turn is what it would be without: what could not be read or parsed ahead is so when its
turn comes, and says then what is wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO

from shared.queueing import task_context
from worker.providers.parser import Block
from worker.services.dataset.claiming import Job
from worker.services.dataset.extracting import asked_of_parser, is_markup
from worker.services.dataset.needs import IndexingNeeds, ParseTogether

#: A socket holds as much, so that to send it waits for nobody.
_TOGETHER_BYTES = 64 * 1024


def reading_together(jobs: Iterable[Job], needs: IndexingNeeds) -> IndexingNeeds:
    """The needs of runs that come in this order, most of whose pages are there by their turns."""
    if needs.parse_together is None:
        return needs
    ahead = _Ahead(jobs, needs, needs.parse_together)
    return replace(needs, files=ahead, parser=ahead)


class _Ahead:
    """Files and parser of several runs: what one opens or asks is mostly there."""

    def __init__(
        self, jobs: Iterable[Job], needs: IndexingNeeds, parse_together: ParseTogether
    ) -> None:
        # Of one that has been indexed before, its file is rarely read at all.
        self._coming = [
            job
            for job in jobs
            if is_markup(job.name)
            and job.active_version is None
            and 0 < job.size_bytes <= _TOGETHER_BYTES
        ]
        self._needs = needs
        self._parse_together = parse_together
        self._contents: dict[str, bytes] = {}
        self._blocks: dict[tuple[bytes, str], Sequence[Block]] = {}

    def open(self, key: str) -> BinaryIO:
        """As ``Files.open``."""
        if key not in self._contents and any(job.storage_key == key for job in self._coming):
            self._read_on(key)
        content = self._contents.pop(key, None)
        return self._needs.files.open(key) if content is None else BytesIO(content)

    def parse(self, content: bytes, name: str) -> Iterator[Block]:
        """As ``Parser.parse``."""
        blocks = self._blocks.pop((content, name), None)
        return self._needs.parser.parse(content, name) if blocks is None else iter(blocks)

    def _read_on(self, key: str) -> None:
        """Read and parse the file of this key, and those after it that there is room for."""
        self._contents, self._blocks = {}, {}
        while self._coming and self._coming[0].storage_key != key:
            del self._coming[0]  # its turn is over, and it did not come to open its file
        asked: list[tuple[Job, tuple[bytes, str]]] = []
        room = _TOGETHER_BYTES
        while self._coming and self._coming[0].size_bytes <= room:
            job = self._coming.pop(0)
            if (one := self._read(job)) and len(one[0]) <= room:
                room -= len(one[0])
                asked.append((job, one))
        if len(asked) < 2:  # noqa: PLR2004 - together is two
            return
        with closing(self._parse_together([one for _, one in asked])) as parsed:
            for job, one in asked:
                with task_context.about(job.document_id, job.tenant_id):
                    if blocks := next(parsed, None):
                        self._blocks[one] = blocks

    def _read(self, job: Job) -> tuple[bytes, str] | None:
        """What the parser will be asked; ``None`` where it will not be, or not this."""
        try:
            with self._needs.files.open(job.storage_key) as file:
                content = file.read(job.size_bytes + 1)
            one = asked_of_parser(content, job.name, self._needs.limits)
        except Exception:  # noqa: BLE001 - its turn meets it again, and says so
            return None
        if len(content) != job.size_bytes:
            return None
        self._contents[job.storage_key] = content
        return one
