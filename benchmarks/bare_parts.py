"""The floor: extract, split, embed, binary COPY, and nothing else; a contender's process.

No lease, no document's row, no keywords, no second look: what indexing would take if nothing
could go wrong. A commit a file, as each is a document of its own.
"""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import kreuzberg
import numpy as np
import psycopg2
from numpy.typing import NDArray
from semantic_text_splitter import MarkdownSplitter
from sqlalchemy import make_url

from benchmarks.peers.turns import CHUNK_CHARACTERS, Turn, take_turns
from worker.providers import pdfium
from worker.providers.wordllama import WordLlamaEmbedder


def main() -> None:
    """Take turns."""
    embed = _embedding()
    splitter = MarkdownSplitter(CHUNK_CHARACTERS)
    url = make_url(os.environ["PEERS_URI"])
    connection = psycopg2.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database
    )

    def text(path: Path) -> str:
        if path.suffix == ".txt":
            return path.read_text("utf-8")
        if path.suffix == ".pdf":
            return "\n\n".join(page.text for page in pdfium.pages(path.read_bytes()))
        config = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False)
        return kreuzberg.extract_bytes_sync(path.read_bytes(), "text/html", config=config).content

    def index(turn: Turn) -> int:
        segments = 0
        with connection.cursor() as cursor:
            # Both processes come here at once.
            cursor.execute("SELECT pg_advisory_xact_lock(1)")
            columns = "id uuid PRIMARY KEY, content text, v vector"
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {turn.table} ({columns})")
            connection.commit()
            for path in turn.files:
                chunks = splitter.chunks(text(path))
                copied = io.BytesIO(_binary(chunks, embed(chunks)))
                cursor.copy_expert(f"COPY {turn.table} FROM STDIN (FORMAT binary)", copied)
                connection.commit()
                segments += len(chunks)
        return segments

    take_turns(index)


def _embedding() -> Callable[[list[str]], NDArray[np.float32]]:
    address = os.environ.get("EMBEDDING_URL")
    if not address:
        model = WordLlamaEmbedder("l2_supercat_256")
        return lambda chunks: model.embed(chunks).vectors
    client = httpx.Client(timeout=60)

    def ask(chunks: list[str]) -> NDArray[np.float32]:
        found: list[list[float]] = []
        for first in range(0, len(chunks), 32):
            asked = {"model": "slow", "input": chunks[first : first + 32]}
            answer = client.post(f"{address}/embeddings", json=asked).raise_for_status()
            found += [one["embedding"] for one in answer.json()["data"]]
        return np.array(found, np.float32)

    return ask


def _binary(chunks: list[str], vectors: NDArray[np.float32]) -> bytes:
    out = [b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)]
    big_endian = vectors.astype(">f4")
    head = struct.pack("!hh", big_endian.shape[1], 0)
    for chunk, vector in zip(chunks, big_endian, strict=True):
        content = chunk.encode()
        value = head + vector.tobytes()
        out.append(struct.pack("!hi", 3, 16) + uuid4().bytes)
        out.append(struct.pack("!i", len(content)) + content)
        out.append(struct.pack("!i", len(value)) + value)
    out.append(struct.pack("!h", -1))
    return b"".join(out)


if __name__ == "__main__":
    main()
