"""Signed tokens: which tenant's answers a browser may read, said by your API, checked anywhere."""

from datetime import timedelta
from uuid import UUID

from flask import request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import SecretStr

from shared.errors import ConfigurationError

_SALT = "rag-worker answers"


class AnswerTokens:
    """Makes and reads them; without a SECRET_KEY none is valid.

    Args:
        secret_key: the SECRET_KEY that both sides have.
        life: how long a token is taken.
    """

    def __init__(self, secret_key: SecretStr, life: timedelta = timedelta(hours=1)) -> None:
        key = secret_key.get_secret_value()
        self._serializer = URLSafeTimedSerializer(key, salt=_SALT) if key else None
        self._life = life

    def make(self, tenant_id: UUID) -> str:
        """A token for the answers of a tenant.

        Raises:
            ConfigurationError: there is no SECRET_KEY.
        """
        if self._serializer is None:
            raise ConfigurationError("SECRET_KEY is empty: tokens cannot be signed without one")
        return str(self._serializer.dumps(str(tenant_id)))

    def tenant_of_request(self) -> UUID | None:
        """The tenant of the request's token; ``None`` without a valid one.

        It comes as ``Authorization: Bearer``, or, as browsers' EventSource sends no
        headers, as ``access_token`` in the query (RFC 6750, 2.1 and 2.3).
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = given if scheme.lower() == "bearer" else request.args.get("access_token", "")
        if self._serializer is None or not token:
            return None
        try:
            tenant = self._serializer.loads(token, max_age=int(self._life.total_seconds()))
            return UUID(tenant)
        except (BadSignature, ValueError, AttributeError, TypeError):
            return None
