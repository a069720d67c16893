"""A file becomes passages with vectors, by rag-worker's own functions, without its delivery."""

import io
from functools import cache

from shared.settings.indexing import IndexingSettings
from worker.providers.kreuzberg import KreuzbergParser
from worker.providers.parser import Block
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.cleaning import clean
from worker.services.dataset.embedding import EmbeddedPassage, embed_passages
from worker.services.dataset.extracting import Limits, extract
from worker.services.dataset.splitting import SplitRule, split


def embedded_passages(name: str, content: bytes) -> list[EmbeddedPassage]:
    """All passages of a file, in order.

    Raises:
        UnreadableFile: and its kin: nothing can read it.
    """
    embedder, rule = _embedder(), SplitRule()
    blocks = extract(io.BytesIO(content), name, len(content), _limits(), _parser())
    cleaned = (Block(clean(block.text), block.is_markdown, block.page) for block in blocks)
    passages = list(split(cleaned, rule, embedder.count_tokens))
    return embed_passages(passages, rule, embedder, lambda _: {})


@cache
def _embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder("l2_supercat_256")


@cache
def _parser() -> KreuzbergParser:
    return KreuzbergParser()


@cache
def _limits() -> Limits:
    settings = IndexingSettings()
    return Limits(
        file_bytes=settings.indexing_max_file_bytes,
        parsed_file_bytes=settings.indexing_max_parsed_file_bytes,
        unpacked_bytes=settings.indexing_max_unpacked_bytes,
        unpacked_ratio=settings.indexing_max_unpacked_ratio,
        archive_members=settings.indexing_max_archive_members,
    )
