"""Haystack as its documentation has it: one indexing pipeline from files to PgvectorDocumentStore.

https://docs.haystack.deepset.ai/docs/creating-pipelines: a router by file type, converters, a
joiner, a splitter, an embedder, a writer.
"""

import os

from embedding import DIMENSIONS, Embedder
from haystack import Document, Pipeline, component
from haystack.components.converters import HTMLToDocument, PyPDFToDocument, TextFileToDocument
from haystack.components.joiners import DocumentJoiner
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.routers import FileTypeRouter
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore
from turns import CHUNK_CHARACTERS, Turn, take_turns

#: About six characters a word.
CHUNK_WORDS = CHUNK_CHARACTERS // 6
#: What the framework's own embedders have.
BATCH_TEXTS = 32


@component
class WordLlamaDocumentEmbedder:
    def __init__(self) -> None:
        self._embedder = Embedder()

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        for start in range(0, len(documents), BATCH_TEXTS):
            batch = documents[start : start + BATCH_TEXTS]
            vectors = self._embedder.embed([one.content or "" for one in batch])
            for document, vector in zip(batch, vectors, strict=True):
                document.embedding = vector
        return {"documents": documents}


def pipeline(table: str) -> Pipeline:
    store = PgvectorDocumentStore(
        connection_string=Secret.from_token(os.environ["PEERS_URI"]),
        table_name=table,
        embedding_dimension=DIMENSIONS,
        create_extension=False,
        keyword_index_name=f"{table}_words",
    )
    store.count_documents()  # now, and not in the first turn, it makes its table
    made = Pipeline()
    types = ["text/html", "application/pdf", "text/plain"]
    made.add_component("router", FileTypeRouter(mime_types=types))
    made.add_component("html", HTMLToDocument())
    made.add_component("pdf", PyPDFToDocument())
    made.add_component("text", TextFileToDocument())
    made.add_component("joiner", DocumentJoiner())
    made.add_component("splitter", DocumentSplitter(split_by="word", split_length=CHUNK_WORDS))
    made.add_component("embedder", WordLlamaDocumentEmbedder())
    made.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    for kind, converter in zip(types, ("html", "pdf", "text"), strict=True):
        made.connect(f"router.{kind}", f"{converter}.sources")
        made.connect(f"{converter}.documents", "joiner.documents")
    made.connect("joiner", "splitter")
    made.connect("splitter", "embedder")
    made.connect("embedder", "writer")
    return made


def main() -> None:
    opened: dict[str, Pipeline] = {}

    def run(turn: Turn) -> int:
        if turn.table not in opened:
            opened[turn.table] = pipeline(turn.table)
        if not turn.files:
            return 0
        done = opened[turn.table].run({"router": {"sources": turn.files}})
        return done["writer"]["documents_written"]

    take_turns(run)


if __name__ == "__main__":
    main()
