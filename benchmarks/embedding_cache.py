"""Whether a vector is looked up or made anew: the cache beside the embedder in the worker.

``python -m benchmarks.embedding_cache`` takes turns between the three; the figure is the
median time of a batch of 256 passages of about 250 tokens.
"""

import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from shared.models import Embedding
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.stores.embedding_cache import EmbeddingCache
from worker.wiring import embedder

BATCH = 256
ROUNDS = 30
WORDS = ("lamp", "harbour", "station", "measure", "report", "winter", "seal", "instrument", "the")


def main() -> int:
    """Print the three times and their ratios."""
    model = embedder("wordllama", "l2_supercat_256")
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder)) as postgres:
        engine = create_engine(postgres.uri)
        Embedding.metadata.create_all(engine, [Embedding.metadata.tables[Embedding.__tablename__]])
        cache = EmbeddingCache(sessionmaker(engine))
        made, stored, fetched = [], [], []
        for _ in range(ROUNDS):
            texts = [" ".join(draw.choices(WORDS, k=200)) for _ in range(BATCH)]
            hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
            vectors = model.embed(texts).vectors
            made.append(seconds(partial(model.embed, texts)))
            rows = dict(zip(hashes, vectors, strict=True))
            stored.append(seconds(partial(cache.store, model.model, rows)))
            fetched.append(seconds(partial(cache.fetch, model.model, hashes)))
        engine.dispose()
    times = {"made": made, "stored": stored, "looked up": fetched}
    for name, each in times.items():
        print(f"{name:>10}: {statistics.median(each) * 1000:7.1f} ms")
    miss = (statistics.median(stored) + statistics.median(fetched)) / statistics.median(made)
    hit = statistics.median(fetched) / statistics.median(made)
    print(f"a miss adds {miss:.0%} to embedding with {model.model}, a hit takes {hit:.0%} of it")
    return 0


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main())
