"""LangChain as its documentation has it: loaders, a splitter, ``index()``, PGVector.

https://python.langchain.com/docs/how_to/indexing: records in SQL, clean-up "incremental".
``PGVector`` and not the newer ``PGVectorStore``, which writes each row in a transaction of its
own and is several times slower.
"""

import os
from collections.abc import Iterator

from embedding import DIMENSIONS, Embedder
from langchain_classic.indexes import SQLRecordManager, index
from langchain_community.document_loaders import BSHTMLLoader, PyPDFLoader, TextLoader
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGVector
from langchain_text_splitters import RecursiveCharacterTextSplitter
from turns import CHUNK_CHARACTERS, Turn, take_turns

LOADERS = {".html": BSHTMLLoader, ".pdf": PyPDFLoader, ".txt": TextLoader}
CONNECTION = "postgresql+psycopg" + os.environ["PEERS_URI"].removeprefix("postgresql")


class WordLlama(Embeddings):
    def __init__(self) -> None:
        self._embedder = Embedder()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._embedder.embed([text])[0]


def main() -> None:
    embeddings = WordLlama()
    splitter = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=0)
    opened: dict[str, tuple[PGVector, SQLRecordManager]] = {}

    def open_index(table: str) -> tuple[PGVector, SQLRecordManager]:
        store = PGVector(
            embeddings,
            connection=CONNECTION,
            collection_name=table,
            embedding_length=DIMENSIONS,
            create_extension=False,
        )
        records = SQLRecordManager(f"pgvector/{table}", db_url=CONNECTION)
        records.create_schema()
        return store, records

    def documents(turn: Turn) -> Iterator[Document]:
        for path in turn.files:
            yield from splitter.split_documents(LOADERS[path.suffix](str(path)).load())

    def run(turn: Turn) -> int:
        if turn.table not in opened:
            opened[turn.table] = open_index(turn.table)
        if not turn.files:
            return 0
        store, records = opened[turn.table]
        done = index(
            documents(turn),
            records,
            store,
            cleanup="incremental",
            source_id_key="source",
            key_encoder="sha256",
        )
        return done["num_added"]

    take_turns(run)


if __name__ == "__main__":
    main()
