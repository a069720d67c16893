"""The tables; importing this package registers them all."""

from shared.models.base import Base, db
from shared.models.chat import TenantChatModel, TokenUse
from shared.models.child_chunk import ChildChunk
from shared.models.conversation import Conversation, Message, MessageStatus
from shared.models.dataset import Dataset, DatasetAutoDisableLog, DatasetProcessRule, UploadFile
from shared.models.document import Document
from shared.models.document_status import DocumentStatus
from shared.models.document_version import DocumentVersion
from shared.models.embedding import Embedding
from shared.models.generation import GenerationKind, GenerationWork, PassagePairs
from shared.models.index_build import DatasetIndexBuild, IndexBuildDocument
from shared.models.keyword_statistics import FrequentWord, KeywordTotals
from shared.models.mail import MailDelivery, MailStatus
from shared.models.outbox import NO_TENANT, DeadLetter, OutboxMessage, TaskSwitch
from shared.models.removal import Removal
from shared.models.scheduled_run import ScheduledRun
from shared.models.segment import DocumentSegment, SegmentVector
from shared.models.segment_keyword import SegmentKeywords
from shared.models.segment_work import SegmentEdit, SegmentImport
from shared.models.tenant import Account, AccountStatus, Role, Tenant, TenantAccountJoin
from shared.models.trace import TraceConfig, TraceDelivery, TraceStatus
from shared.models.trace_breaker import TraceBreaker
from shared.models.url_source import UrlSource
from shared.models.vector_write import VectorPoint, VectorWrite
from shared.models.worker_node import WorkerNode

__all__ = [
    "NO_TENANT",
    "Account",
    "AccountStatus",
    "Base",
    "ChildChunk",
    "Conversation",
    "Dataset",
    "DatasetAutoDisableLog",
    "DatasetIndexBuild",
    "DatasetProcessRule",
    "DeadLetter",
    "Document",
    "DocumentSegment",
    "DocumentStatus",
    "DocumentVersion",
    "Embedding",
    "FrequentWord",
    "GenerationKind",
    "GenerationWork",
    "IndexBuildDocument",
    "KeywordTotals",
    "MailDelivery",
    "MailStatus",
    "Message",
    "MessageStatus",
    "OutboxMessage",
    "PassagePairs",
    "Removal",
    "Role",
    "ScheduledRun",
    "SegmentEdit",
    "SegmentImport",
    "SegmentKeywords",
    "SegmentVector",
    "TaskSwitch",
    "Tenant",
    "TenantAccountJoin",
    "TenantChatModel",
    "TokenUse",
    "TraceBreaker",
    "TraceConfig",
    "TraceDelivery",
    "TraceStatus",
    "UploadFile",
    "UrlSource",
    "VectorPoint",
    "VectorWrite",
    "WorkerNode",
    "db",
]
