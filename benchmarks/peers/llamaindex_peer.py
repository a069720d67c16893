"""LlamaIndex as its documentation has it: a directory reader, an ingestion pipeline, PGVectorStore.

https://docs.llamaindex.ai/en/stable/examples/ingestion/document_management_pipeline/: a document
store keeps hashes, "upserts" is its strategy. The store is PostgreSQL, as the vectors' is.
"""

import os
from typing import Any

from embedding import DIMENSIONS, Embedder
from llama_index.core import SimpleDirectoryReader
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.readers.file import HTMLTagReader, PDFReader
from llama_index.storage.docstore.postgres import PostgresDocumentStore
from llama_index.storage.kvstore.postgres import PostgresKVStore
from llama_index.vector_stores.postgres import PGVectorStore
from pydantic import PrivateAttr
from sqlalchemy import make_url
from turns import CHUNK_CHARACTERS, Turn, take_turns

URI = os.environ["PEERS_URI"]
#: Of the tokenizer that the splitter counts with; about four characters each.
CHUNK_TOKENS = CHUNK_CHARACTERS // 4


class WordLlama(BaseEmbedding):
    _embedder: Any = PrivateAttr()

    def __init__(self) -> None:
        # 100 is what the framework's own OpenAI embedding has; the base class has 10.
        super().__init__(embed_batch_size=100)
        self._embedder = Embedder()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embedder.embed([query])[0]


def main() -> None:
    embedding = WordLlama()
    splitter = SentenceSplitter(chunk_size=CHUNK_TOKENS, chunk_overlap=0)
    readers = {".html": HTMLTagReader(tag="body"), ".pdf": PDFReader()}
    opened: dict[str, IngestionPipeline] = {}

    def open_index(table: str) -> IngestionPipeline:
        url = make_url(URI)
        place = {
            "host": url.host,
            "port": url.port,
            "user": url.username,
            "password": url.password,
            "database": url.database,
        }
        return IngestionPipeline(
            transformations=[splitter, embedding],
            vector_store=PGVectorStore.from_params(
                **place, table_name=table, embed_dim=DIMENSIONS, use_jsonb=True
            ),
            # Not PostgresDocumentStore.from_params: 0.6 gives it what the store 0.4 does not take.
            docstore=PostgresDocumentStore(
                PostgresKVStore.from_params(
                    **{**place, "port": str(url.port)}, table_name=f"{table}_docs", use_jsonb=True
                )
            ),
            docstore_strategy=DocstoreStrategy.UPSERTS,
            disable_cache=True,
        )

    def run(turn: Turn) -> int:
        if turn.table not in opened:
            opened[turn.table] = open_index(turn.table)
        if not turn.files:
            return 0
        reader = SimpleDirectoryReader(
            input_files=turn.files, file_extractor=readers, filename_as_id=True
        )
        return len(opened[turn.table].run(documents=reader.load_data()))

    take_turns(run)


if __name__ == "__main__":
    main()
