"""What each trace provider wants of OTLP over HTTP: its path, its headers, its own attributes.

Sources, read in 2026: langfuse.com/integrations/native/opentelemetry,
docs.langchain.com/langsmith/trace-with-opentelemetry, arize.com/docs/phoenix,
comet.com/docs/opik/tracing/opentelemetry, docs.wandb.ai/weave/guides/tracking/otel.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from shared.errors import ProviderRefused
from shared.submitting.trace_schema import Span, Trace
from worker.providers import trace_dialects as dialects
from worker.providers.trace_attributes import Attributes, Content
from worker.providers.trace_sender import Target

_TRACES = "/v1/traces"
Values = Mapping[str, Any]


def _no_attributes(trace: Trace, span: Span, *, is_root: bool) -> Attributes:  # noqa: ARG001 - the others'
    return {}


def _no_resource(options: Values) -> Attributes:  # noqa: ARG001 - the others'
    return {}


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider.

    Attributes:
        endpoint: of its own cloud; ``None`` where everybody has their own.
        path: of its OTLP receiver, below the endpoint.
        headers: of a request, from the secrets and the options.
        content: under which names it reads inputs and outputs.
        attributes: what it alone understands, of a span.
        resource: likewise, of the resource.
        keeps_traces_whole: it drops spans whose parent never arrives.
        max_bytes: of a request, before compression.
        max_spans: of a request.
    """

    name: str
    endpoint: str | None
    path: str
    headers: Callable[[Values, Values], dict[str, str]]
    content: Content
    attributes: Callable[..., Attributes] = _no_attributes
    resource: Callable[[Values], Attributes] = _no_resource
    keeps_traces_whole: bool = False
    max_bytes: int = 4 * 1024**2
    max_spans: int = 2000


def target_of(preset: Preset, endpoint: str | None, secrets: Values, options: Values) -> Target:
    """Where a configuration's spans go.

    Raises:
        ProviderRefused: (permanent) there is no endpoint, or a header cannot be sent.
    """
    base = endpoint or preset.endpoint
    if base is None:
        raise ProviderRefused(f"{preset.name} has no endpoint: `rag-worker traces config set`")
    headers = preset.headers(secrets, options)
    for name, value in headers.items():
        if not (name.isascii() and value.isprintable() and ":" not in name):
            raise ProviderRefused(f"the header {name!r} cannot be sent: `traces config set`")
    return Target(url_of(base, preset.path), headers, _hidden(secrets, headers))


def url_of(endpoint: str, path: str) -> str:
    """The endpoint with the path below it; what the endpoint has of it already is not repeated."""
    parts = urlsplit(endpoint)
    given = parts.path.rstrip("/")
    if given.endswith(_TRACES):
        return urlunsplit(parts._replace(path=given))
    pieces = path.split("/")[1:]
    for count in range(len(pieces), 0, -1):
        beginning = "/" + "/".join(pieces[:count])
        if given.endswith(beginning):
            rest = "".join(f"/{piece}" for piece in pieces[count:])
            return urlunsplit(parts._replace(path=given + rest))
    return urlunsplit(parts._replace(path=given + path))


def _hidden(secrets: Values, headers: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for value in secrets.values():
        found += value.values() if isinstance(value, Mapping) else [str(value)]
    # A provider may repeat what it was sent, also in the form it was sent in.
    found += [value.split(" ", 1)[-1] for name, value in headers.items() if _is_secret(name)]
    return tuple(sorted({one for one in found if one}, key=len, reverse=True))


def _is_secret(header: str) -> bool:
    return header.lower() in {"authorization", "x-api-key", "wandb-api-key"}


def _otlp(secrets: Values, options: Values) -> dict[str, str]:
    shown, hidden = options.get("headers") or {}, secrets.get("headers") or {}
    return {str(name): str(value) for name, value in {**shown, **hidden}.items()}


def _langfuse(secrets: Values, options: Values) -> dict[str, str]:  # noqa: ARG001 - the others'
    pair = f"{secrets['public_key']}:{secrets['secret_key']}".encode()
    return {
        "Authorization": f"Basic {base64.b64encode(pair).decode()}",
        # Without it spans show up with minutes of delay.
        "x-langfuse-ingestion-version": "4",
    }


def _langsmith(secrets: Values, options: Values) -> dict[str, str]:
    return _said({"x-api-key": secrets["api_key"], "Langsmith-Project": options.get("project")})


def _phoenix(secrets: Values, options: Values) -> dict[str, str]:  # noqa: ARG001 - the others'
    key = secrets.get("api_key")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _opik(secrets: Values, options: Values) -> dict[str, str]:
    return _said(
        {
            "Authorization": secrets.get("api_key"),
            "Comet-Workspace": options.get("workspace"),
            "projectName": options.get("project"),
        }
    )


def _weave(secrets: Values, options: Values) -> dict[str, str]:  # noqa: ARG001 - the others'
    return {"wandb-api-key": str(secrets["api_key"])}


def _said(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in headers.items() if value}


def _phoenix_resource(options: Values) -> Attributes:
    project = options.get("project")
    return {"openinference.project.name": project} if project else {}


def _weave_resource(options: Values) -> Attributes:
    return {"wandb.entity": options["entity"], "wandb.project": options["project"]}


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="otlp",
            endpoint=None,
            path=_TRACES,
            headers=_otlp,
            content=Content.VALUES | Content.PARTS | Content.OLD,
        ),
        Preset(
            name="langfuse",
            endpoint="https://cloud.langfuse.com",
            path="/api/public/otel/v1/traces",
            headers=_langfuse,
            content=Content.PARTS,
            attributes=dialects.langfuse,
        ),
        Preset(
            name="langsmith",
            endpoint="https://api.smith.langchain.com",
            path="/otel/v1/traces",
            headers=_langsmith,
            content=Content.VALUES | Content.PARTS | Content.OLD,
            attributes=dialects.langsmith,
            keeps_traces_whole=True,
        ),
        Preset(
            name="phoenix",
            endpoint=None,
            path=_TRACES,
            headers=_phoenix,
            content=Content.VALUES | Content.MESSAGES,
            resource=_phoenix_resource,
        ),
        Preset(
            name="opik",
            endpoint="https://www.comet.com/opik/api",
            path="/api/v1/private/otel/v1/traces",
            headers=_opik,
            content=Content.VALUES,
            attributes=dialects.opik,
        ),
        Preset(
            name="weave",
            endpoint="https://trace.wandb.ai",
            path="/otel/v1/traces",
            headers=_weave,
            content=Content.VALUES | Content.PARTS,
            attributes=dialects.weave,
            resource=_weave_resource,
        ),
    )
}
