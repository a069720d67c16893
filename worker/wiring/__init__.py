"""Builds what each service needs; the only package that names concrete parts."""

from worker.wiring.answers import answer_needs
from worker.wiring.chat import chat_model, extract_answer, preload_chat
from worker.wiring.dataset import (
    index_needs,
    indexing_needs,
    removal_needs,
    remove_unused_files,
    retrieval_needs,
    sync_needs,
)
from worker.wiring.embedders import (
    COSTLY_EMBEDDERS,
    LOCAL_EMBEDDERS,
    embedder,
    embedding_cache,
    preload_embedder,
)
from worker.wiring.generation import generation_needs
from worker.wiring.mail import composer, mail_needs
from worker.wiring.ops_trace import clean_old_traces, payload_files
from worker.wiring.sweeping import sweep
from worker.wiring.trace_export import export_needs
from worker.wiring.trace_probing import probe_provider
from worker.wiring.vectors import preload_vector_stores, vector_stores

__all__ = [
    "COSTLY_EMBEDDERS",
    "LOCAL_EMBEDDERS",
    "answer_needs",
    "chat_model",
    "clean_old_traces",
    "composer",
    "embedder",
    "embedding_cache",
    "export_needs",
    "extract_answer",
    "generation_needs",
    "index_needs",
    "indexing_needs",
    "mail_needs",
    "payload_files",
    "preload_chat",
    "preload_embedder",
    "preload_vector_stores",
    "probe_provider",
    "removal_needs",
    "remove_unused_files",
    "retrieval_needs",
    "sweep",
    "sync_needs",
    "vector_stores",
]
