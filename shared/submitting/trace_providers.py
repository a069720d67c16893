"""The providers of traces as one table: what the configuration of each is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidRequest
from shared.submitting.files import storable

_CHARACTERS = 4096
_HEADERS = "headers"
_MOST_HEADERS = 32
_MOST_KEYS = 100
#: Of every provider: what is masked beyond the settings, and whether contents leave at all.
_COMMON_OPTIONS = ("redact_keys", "capture_content")


@dataclass(frozen=True, slots=True)
class TraceProvider:
    """One provider.

    Attributes:
        secrets: required ones.
        optional_secrets: the others; ``headers`` is an object of texts.
        options: required ones that are no secrets.
        optional_options: the others.
        has_own_cloud: no endpoint is needed; with one of one's own, what is in
            ``only_cloud`` is not required.
        only_cloud: secrets and options that the provider's own cloud requires.
    """

    name: str
    secrets: tuple[str, ...] = ()
    optional_secrets: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    optional_options: tuple[str, ...] = ()
    has_own_cloud: bool = True
    only_cloud: tuple[str, ...] = ()


PROVIDERS: dict[str, TraceProvider] = {
    provider.name: provider
    for provider in (
        TraceProvider(
            "otlp",
            optional_secrets=(_HEADERS,),
            optional_options=(_HEADERS,),
            has_own_cloud=False,
        ),
        TraceProvider("langfuse", secrets=("public_key", "secret_key")),
        TraceProvider("langsmith", secrets=("api_key",), options=("project",)),
        TraceProvider(
            "phoenix",
            optional_secrets=("api_key",),
            optional_options=("project",),
            has_own_cloud=False,
        ),
        TraceProvider(
            "opik",
            optional_secrets=("api_key",),
            options=("project",),
            optional_options=("workspace",),
            only_cloud=("api_key", "workspace"),
        ),
        TraceProvider("weave", secrets=("api_key",), options=("entity", "project")),
    )
}


def provider_of(name: str) -> TraceProvider:
    """The provider of that name.

    Raises:
        InvalidRequest: there is none.
    """
    found = PROVIDERS.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidRequest(f"there is no provider {name!r}; there are: {', '.join(PROVIDERS)}")
    return found


def check_config(
    provider: TraceProvider,
    endpoint: str | None,
    secrets: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Check that a configuration is whole.

    Raises:
        InvalidRequest: something is missing, unknown, or of the wrong type; no value is shown.
    """
    if endpoint is None and not provider.has_own_cloud:
        raise InvalidRequest(f"{provider.name} has no cloud of its own: say the endpoint")
    cloud = provider.only_cloud if endpoint is None else ()
    known_secrets = (*provider.secrets, *provider.optional_secrets)
    known_options = (*provider.options, *provider.optional_options)
    _check_names("secret", provider, secrets, known_secrets)
    _check_names("option", provider, options, (*known_options, *_COMMON_OPTIONS))
    needed = [
        ("secret", name, secrets) for name in known_secrets if name in (*provider.secrets, *cloud)
    ]
    needed += [
        ("option", name, options) for name in known_options if name in (*provider.options, *cloud)
    ]
    for what, name, given in needed:
        if not given.get(name):
            raise InvalidRequest(f"{provider.name} needs the {what} {name}")
    for name, value in {**secrets, **options}.items():
        _check_value(name, value)
    _check_headers(secrets.get(_HEADERS), options.get(_HEADERS))


def _check_names(
    what: str, provider: TraceProvider, given: Mapping[str, Any], known: tuple[str, ...]
) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        there = ", ".join(known) or "none"
        raise InvalidRequest(
            f"{provider.name} has no {what} {', '.join(map(str, unknown))}; there are: {there}"
        )


def _check_value(name: str, value: Any) -> None:
    if name == _HEADERS:
        return
    if name == "capture_content":
        if not isinstance(value, bool):
            raise InvalidRequest("capture_content is true or false")
        return
    if name == "redact_keys":
        is_list = isinstance(value, list) and len(value) <= _MOST_KEYS
        if not is_list or not all(isinstance(one, str) and one for one in value):
            raise InvalidRequest(f"redact_keys is a list of up to {_MOST_KEYS} keys")
        return
    # They become headers: no line break may come in, no other alphabet get lost.
    is_text = isinstance(value, str) and 0 < len(value) <= _CHARACTERS
    if not is_text or not value.isprintable() or storable(value) != value:
        raise InvalidRequest(f"{name} is one line of up to {_CHARACTERS} characters")


def _check_headers(*several: Any) -> None:
    for headers in several:
        if headers is None:
            continue
        if not isinstance(headers, Mapping) or len(headers) > _MOST_HEADERS:
            raise InvalidRequest(f"headers is an object of up to {_MOST_HEADERS} names and texts")
        for name, value in headers.items():
            if not isinstance(name, str) or not _is_token(name):
                raise InvalidRequest("a header's name has letters, digits and dashes only")
            _check_value(f"the header {name}", value)


def _is_token(name: str) -> bool:
    return bool(name) and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
