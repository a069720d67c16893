"""Every field of every span, as each provider's preset puts it on the wire."""

import base64
from ipaddress import ip_network
from typing import Any

import pytest

from shared.submitting.trace_payload import checked_trace, packed, unpacked
from tests.fixtures.trace_receiver import ReceivedSpan, TraceReceiver
from tests.fixtures.traces import NOW_NS, chat_trace, span
from worker.providers.otlp import OtlpRules, OtlpSender
from worker.providers.otlp_encoding import encode, joined
from worker.providers.trace_presets import PRESETS, target_of

MS = 1_000_000
TRACE = "7f101882da84eaf14438924aaf961a94"
ROOT, RETRIEVE, ANSWER, TOOL = (
    "8b705fa9c409ddcb",
    "f8de8367ddf9bf6a",
    "8c3ffe3302e5a8cc",
    "780c39727ce7a8ed",
)
OPTIONS = {"project": "tides-project", "workspace": "acme", "entity": "acme-team"}
SECRETS: dict[str, dict[str, Any]] = {
    "otlp": {"headers": {"x-team-key": "sk-otlp-secret"}},
    "langfuse": {"public_key": "pk-lf-1", "secret_key": "sk-lf-secret"},
    "langsmith": {"api_key": "lsv2-secret"},
    "phoenix": {"api_key": "phoenix-secret"},
    "opik": {"api_key": "opik-secret"},
    "weave": {"api_key": "wandb-secret"},
}
PATHS = {
    "otlp": "/v1/traces",
    "langfuse": "/api/public/otel/v1/traces",
    "langsmith": "/otel/v1/traces",
    "phoenix": "/v1/traces",
    "opik": "/api/v1/private/otel/v1/traces",
    "weave": "/otel/v1/traces",
}
HEADERS = {
    "otlp": {"x-team-key": "sk-otlp-secret"},
    "langfuse": {
        "Authorization": "Basic " + base64.b64encode(b"pk-lf-1:sk-lf-secret").decode(),
        "x-langfuse-ingestion-version": "4",
    },
    "langsmith": {"x-api-key": "lsv2-secret", "Langsmith-Project": "tides-project"},
    "phoenix": {"Authorization": "Bearer phoenix-secret"},
    "opik": {
        "Authorization": "opik-secret",
        "Comet-Workspace": "acme",
        "projectName": "tides-project",
    },
    "weave": {"wandb-api-key": "wandb-secret"},
}
RESOURCES: dict[str, dict[str, Any]] = {
    "phoenix": {"openinference.project.name": "tides-project"},
    "weave": {"wandb.entity": "acme-team", "wandb.project": "tides-project"},
}

CHAT_IN = '[{"content":"Be short.","role":"system"},{"content":"When is high tide?","role":"user"}]'
CHAT_OUT = '[{"content":"At noon.","role":"assistant"}]'
#: Said to everybody.
COMMON: dict[str, dict[str, Any]] = {
    ROOT: {
        "openinference.span.kind": "CHAIN",
        "rag_worker.trace.name": "tides",
        "rag_worker.trace.kind": "chat",
        "rag_worker.app_id": "app-1",
        "tag.tags": ["beta", "en"],
        "metadata": '{"plan":"free"}',
    },
    RETRIEVE: {
        "openinference.span.kind": "RETRIEVER",
        "gen_ai.operation.name": "retrieval",
        "gen_ai.retrieval.query.text": "high tide",
        "gen_ai.retrieval.documents": '[{"id":"doc-1","score":0.9},{"id":"doc-2","score":0.1}]',
        "retrieval.documents.0.document.id": "doc-1",
        "retrieval.documents.0.document.content": "High tide is at noon.",
        "retrieval.documents.0.document.score": 0.9,
        "retrieval.documents.1.document.id": "doc-2",
        "retrieval.documents.1.document.content": "Low tide.",
        "retrieval.documents.1.document.score": 0.1,
        "retrieval.documents.1.document.metadata": '{"page":3}',
    },
    ANSWER: {
        "openinference.span.kind": "LLM",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2026",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.total_tokens": 150,
        "gen_ai.usage.prompt_tokens": 120,
        "gen_ai.usage.completion_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "gen_ai.usage.cost": 0.003,
        "gen_ai.response.time_to_first_chunk": 0.007,
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.model_name": "gpt-4o-2026",
        "llm.invocation_parameters": '{"max_tokens":500,"temperature":0.2}',
        "llm.token_count.prompt": 120,
        "llm.token_count.completion": 30,
        "llm.token_count.total": 150,
        "llm.token_count.prompt_details.cache_read": 100,
        "llm.token_count.completion_details.reasoning": 5,
        "llm.cost.prompt": 0.001,
        "llm.cost.completion": 0.002,
        "llm.cost.total": 0.003,
        "deployment": "blue",
        "tries": 2,
    },
    TOOL: {
        "openinference.span.kind": "TOOL",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look up",
        "gen_ai.tool.call.arguments": '{"place":"Dover"}',
        "tool.name": "look up",
        "tool.parameters": '{"place":"Dover"}',
    },
}
OF_ALL = {
    "session.id": "conversation-1",
    "gen_ai.conversation.id": "conversation-1",
    "user.id": "ada",
}
VALUES: dict[str, dict[str, Any]] = {
    ROOT: {
        "input.value": '{"query":"When is high tide?"}',
        "input.mime_type": "application/json",
        "output.value": '{"answer":"At noon."}',
        "output.mime_type": "application/json",
    },
    RETRIEVE: {"input.value": "high tide", "input.mime_type": "text/plain"},
    ANSWER: {
        "input.value": CHAT_IN,
        "input.mime_type": "application/json",
        "output.value": CHAT_OUT,
        "output.mime_type": "application/json",
    },
    TOOL: {"input.value": '{"place":"Dover"}', "input.mime_type": "application/json"},
}
PARTS = {
    ANSWER: {
        "gen_ai.input.messages": (
            '[{"parts":[{"content":"Be short.","type":"text"}],"role":"system"},'
            '{"parts":[{"content":"When is high tide?","type":"text"}],"role":"user"}]'
        ),
        "gen_ai.output.messages": (
            '[{"parts":[{"content":"At noon.","type":"text"}],"role":"assistant"}]'
        ),
    }
}
OLD = {
    ANSWER: {
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be short.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": "When is high tide?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "At noon.",
    }
}
MESSAGES = {
    ANSWER: {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be short.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "When is high tide?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "At noon.",
    }
}
LANGFUSE_ALL = {
    "langfuse.session.id": "conversation-1",
    "langfuse.user.id": "ada",
    "langfuse.environment": "production",
    "langfuse.release": "1.2.3",
}
LANGFUSE: dict[str, dict[str, Any]] = {
    ROOT: LANGFUSE_ALL
    | {
        "langfuse.observation.type": "chain",
        "langfuse.observation.input": '{"query":"When is high tide?"}',
        "langfuse.observation.output": '{"answer":"At noon."}',
        "langfuse.trace.name": "tides",
        "langfuse.trace.tags": ["beta", "en"],
        "langfuse.trace.metadata.plan": "free",
        "langfuse.trace.input": '{"query":"When is high tide?"}',
        "langfuse.trace.output": '{"answer":"At noon."}',
    },
    RETRIEVE: LANGFUSE_ALL
    | {"langfuse.observation.type": "retriever", "langfuse.observation.input": "high tide"},
    ANSWER: LANGFUSE_ALL
    | {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": CHAT_IN,
        "langfuse.observation.output": CHAT_OUT,
        "langfuse.observation.model.name": "gpt-4o-2026",
        "langfuse.observation.model.parameters": '{"max_tokens":500,"temperature":0.2}',
        "langfuse.observation.usage_details": (
            '{"input":20,"input_cached_tokens":100,"output":25,'
            '"output_reasoning_tokens":5,"total":150}'
        ),
        "langfuse.observation.cost_details": '{"input":0.001,"output":0.002,"total":0.003}',
        "langfuse.observation.completion_start_time": '"2026-09-21T14:13:20.027000Z"',
    },
    TOOL: LANGFUSE_ALL
    | {
        "langfuse.observation.type": "tool",
        "langfuse.observation.input": '{"place":"Dover"}',
        "langfuse.observation.level": "ERROR",
        "langfuse.observation.status_message": "timed out",
    },
}
LANGSMITH_ALL = {
    "langsmith.metadata.session_id": "conversation-1",
    "langsmith.metadata.user_id": "ada",
    "langsmith.span.tags": "beta,en",
}
LANGSMITH: dict[str, dict[str, Any]] = {
    ROOT: LANGSMITH_ALL
    | {
        "langsmith.span.kind": "chain",
        "langsmith.metadata.plan": "free",
        "langsmith.metadata.environment": "production",
        "langsmith.metadata.revision_id": "1.2.3",
    },
    RETRIEVE: LANGSMITH_ALL | {"langsmith.span.kind": "retriever"},
    ANSWER: LANGSMITH_ALL
    | {"langsmith.span.kind": "llm", "gen_ai.usage.details.reasoning_tokens": 5},
    TOOL: LANGSMITH_ALL | {"langsmith.span.kind": "tool"},
}
THREAD = {"thread_id": "conversation-1"}
OPIK: dict[str, dict[str, Any]] = {
    ROOT: THREAD | {"opik.tags": ["beta", "en"], "opik.metadata.plan": "free"},
    RETRIEVE: THREAD,
    ANSWER: THREAD,
    TOOL: THREAD,
}
WEAVE: dict[str, dict[str, Any]] = {
    one: {"wandb.thread_id": "conversation-1", "wandb.is_turn": one == ROOT}
    for one in (ROOT, RETRIEVE, ANSWER, TOOL)
}
DIALECTS: dict[str, list[dict[str, dict[str, Any]]]] = {
    "otlp": [VALUES, PARTS, OLD],
    "langfuse": [PARTS, LANGFUSE],
    "langsmith": [VALUES, PARTS, OLD, LANGSMITH],
    "phoenix": [VALUES, MESSAGES],
    "opik": [VALUES, OPIK],
    "weave": [VALUES, PARTS, WEAVE],
}
#: Counted there as tokens are.
LEFT_OUT = {"opik": {"gen_ai.usage.cost"}}


def expected_attributes(provider: str, span_id: str) -> dict[str, Any]:
    made = COMMON[span_id] | OF_ALL
    for dialect in DIALECTS[provider]:
        made |= dialect.get(span_id, {})
    return {name: one for name, one in made.items() if name not in LEFT_OUT.get(provider, ())}


def expected(provider: str) -> list[ReceivedSpan]:
    resource = {
        "service.name": "app-1",
        "service.version": "1.2.3",
        "deployment.environment.name": "production",
        "deployment.environment": "production",
        **RESOURCES.get(provider, {}),
    }

    def made(span_id: str, parent: str, name: str, begin: int, end: int, **more: Any) -> Any:
        fields: dict[str, Any] = {"kind": 1, "status": 0, "status_message": "", "events": []}
        return ReceivedSpan(
            trace_id=TRACE,
            span_id=span_id,
            parent_span_id=parent,
            name=name,
            flags=0x101,
            start_ns=NOW_NS + begin * MS,
            end_ns=NOW_NS + end * MS,
            attributes=expected_attributes(provider, span_id),
            resource=resource,
            scope="rag-worker",
            **(fields | more),
        )

    thumbs = {
        "gen_ai.evaluation.name": "thumbs",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.explanation": "good",
    }
    helpful = {
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "true",
        "gen_ai.evaluation.explanation": "yes",
    }
    said = "gen_ai.evaluation.result"
    return [
        made(ROOT, "", "chat", 0, 100, events=[(said, NOW_NS + 100 * MS, thumbs)]),
        made(RETRIEVE, ROOT, "retrieve", 1, 15),
        made(
            ANSWER,
            ROOT,
            "answer",
            20,
            90,
            kind=3,
            status=1,
            events=[("first token", NOW_NS + 27 * MS, {"n": 1}), (said, NOW_NS + 90 * MS, helpful)],
        ),
        made(TOOL, ANSWER, "look up", 30, 40, status=2, status_message="timed out"),
    ]


@pytest.mark.parametrize("provider", sorted(PRESETS))
def test_every_field_of_every_span_arrives_as_the_provider_reads_it(
    provider: str, trace_receiver: TraceReceiver
) -> None:
    preset = PRESETS[provider]
    stored, _ = packed(checked_trace(chat_trace()))
    encoded = encode(unpacked(stored), preset, OPTIONS)
    target = target_of(preset, trace_receiver.url, SECRETS[provider], OPTIONS)
    sender = OtlpSender(OtlpRules(networks=(ip_network("127.0.0.0/8"),)))
    receipt = sender.send(target, joined([encoded]))
    sender.close()
    assert (receipt.words, receipt.rejected_spans) == ("", 0)
    (asked,) = trace_receiver.asked
    assert asked.path == PATHS[provider]
    assert asked.headers["User-Agent"] == "rag-worker"
    assert {name: asked.headers[name] for name in HEADERS[provider]} == HEADERS[provider]
    assert asked.spans == expected(provider)


def test_a_trace_is_encoded_the_same_every_time() -> None:
    first, again = (
        encode(checked_trace(chat_trace()), PRESETS["otlp"], {}).content for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize("provider", sorted(PRESETS))
def test_spans_of_every_kind_and_with_little_in_them_are_encoded(provider: str) -> None:
    spans = [
        span(
            kind,
            kind=kind,
            parent_span_id=None if kind == "agent" else "agent",
            input={"query": kind},
            output=["any", {"json": 1}, 2**70],
            model={"request_model": "m"},
            usage={"input_tokens": 3},
            cost={"input": 0.5, "currency": currency},
            documents=[{"content": "c"}],
            feedback=[{"name": "scale", "score": "poor"}],
        )
        for kind, currency in zip(
            ("agent", "llm", "tool", "retriever", "embedding", "reranker", "guardrail", "chain"),
            ("USD", "EUR") * 4,
            strict=True,
        )
    ]
    trace = checked_trace({"trace_id": "few", "name": "n", "spans": spans})
    assert encode(trace, PRESETS[provider], OPTIONS).span_count == 8


@pytest.mark.parametrize(
    ("provider", "endpoint", "url"),
    [
        ("langfuse", None, "https://cloud.langfuse.com/api/public/otel/v1/traces"),
        ("langfuse", "https://lf.acme.test/", "https://lf.acme.test/api/public/otel/v1/traces"),
        (
            "langfuse",
            "https://lf.acme.test/api/public/otel",
            "https://lf.acme.test/api/public/otel/v1/traces",
        ),
        ("langsmith", None, "https://api.smith.langchain.com/otel/v1/traces"),
        (
            "langsmith",
            "https://smith.acme.test/api/v1",
            "https://smith.acme.test/api/v1/otel/v1/traces",
        ),
        ("phoenix", "http://phoenix.test:6006", "http://phoenix.test:6006/v1/traces"),
        ("opik", None, "https://www.comet.com/opik/api/v1/private/otel/v1/traces"),
        ("opik", "http://opik.test:5173", "http://opik.test:5173/api/v1/private/otel/v1/traces"),
        ("opik", "http://opik.test/api/", "http://opik.test/api/v1/private/otel/v1/traces"),
        ("weave", None, "https://trace.wandb.ai/otel/v1/traces"),
        ("weave", "https://acme.wandb.io/traces", "https://acme.wandb.io/traces/otel/v1/traces"),
        ("otlp", "http://collector:4318", "http://collector:4318/v1/traces"),
        ("otlp", "http://collector:4318/v1/traces/", "http://collector:4318/v1/traces"),
        ("otlp", "https://gw.test/otlp?tenant=1", "https://gw.test/otlp/v1/traces?tenant=1"),
    ],
)
def test_the_path_is_filled_in(provider: str, endpoint: str | None, url: str) -> None:
    secrets = SECRETS[provider]
    assert target_of(PRESETS[provider], endpoint, secrets, OPTIONS).url == url
