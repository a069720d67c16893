"""Embedding providers and their models, as far as a producer can know them."""

from shared.errors import InvalidRequest

#: Each with its models; ``None`` where the provider's server or files say what there is.
PROVIDERS: dict[str, tuple[str, ...] | None] = {
    "wordllama": ("l2_supercat_256",),
    "openai_compatible": None,
    "sentence_transformers": None,
}
#: The column's length.
_MODEL_CHARACTERS = 255


def require_known_model(provider: str, model: str) -> None:
    """Check that there may be such a model.

    Raises:
        InvalidRequest: there is no such provider, or it has no such model.
    """
    for name, given in (("provider", provider), ("model", model)):
        if not isinstance(given, str) or not given.strip():
            raise InvalidRequest(f"the embedding {name} is a name, not {given!r}")
    if provider not in PROVIDERS:
        raise InvalidRequest(
            f"there is no embedding provider {provider!r}, only: {', '.join(PROVIDERS)}"
        )
    models = PROVIDERS[provider]
    if models is not None and model not in models:
        raise InvalidRequest(f"{provider} has no model {model!r}, only: {', '.join(models)}")
    if len(model) > _MODEL_CHARACTERS or "\0" in model:
        raise InvalidRequest(
            f"the name of an embedding model has at most {_MODEL_CHARACTERS} characters, no NUL"
        )
