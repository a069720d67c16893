"""Redis or Valkey: the guard, live progress and, by default, the broker."""

from typing import Literal, Self
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.settings.base import SettingsGroup
from shared.settings.endpoints import SCHEMES, SENTINEL_PORT, SentinelLogin, scheme_of


class RedisSettings(SettingsGroup):
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="redis://, rediss://, unix:// or sentinel://a:26379;…; wins over the parts.",
    )
    redis_host: str = Field("127.0.0.1", description="Redis host.")
    redis_port: int = Field(6379, ge=1, le=65535, description="Redis port.")
    redis_username: str = Field("", description="ACL user; empty means the default user.")
    redis_password: SecretStr = Field(SecretStr(""), description="Its password.")
    redis_db: int = Field(0, ge=0, description="Database for guards and progress.")
    redis_use_ssl: bool = Field(default=False, description="Speak TLS to the server.")
    redis_ssl_cert_reqs: Literal["required", "optional", "none"] = Field(
        "required", description="Whether the server must show a certificate we trust."
    )
    redis_ssl_ca_certs: str = Field("", description="CA bundle; empty means the system's.")
    redis_ssl_certfile: str = Field("", description="Client certificate, for mutual TLS.")
    redis_ssl_keyfile: str = Field("", description="Its key.")
    redis_use_sentinel: bool = Field(
        default=False, description="Find the primary through Sentinel."
    )
    redis_sentinels: str = Field("", description="Sentinels as host:port, separated by commas.")
    redis_sentinel_service_name: str = Field("mymaster", description="The primary's name there.")
    redis_sentinel_username: str = Field("", description="The Sentinels' own ACL user.")
    redis_sentinel_password: SecretStr = Field(SecretStr(""), description="Its password.")
    redis_socket_timeout_seconds: float = Field(
        2, gt=0, description="How long a command or a connection attempt may take."
    )
    redis_max_connections: int = Field(
        200, ge=1, description="Connections a process may open for guards and progress."
    )

    @field_validator("redis_url")
    @classmethod
    def _must_be_a_server(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and scheme_of(url) not in SCHEMES:
            raise ValueError("not a Redis URL: write redis://user:password@host:port/database")
        return value

    @model_validator(mode="after")
    def _must_know_a_sentinel(self) -> Self:
        if self.redis_use_sentinel and not (self._hosts() or self.redis_url.get_secret_value()):
            raise ValueError("REDIS_USE_SENTINEL needs REDIS_SENTINELS: write host:port,host:port")
        return self

    @field_validator("redis_sentinels")
    @classmethod
    def _must_name_hosts(cls, value: str) -> str:
        for host in filter(None, map(str.strip, value.split(","))):
            port = host.rpartition(":")[2] if ":" in host else ""
            if "@" in host or "/" in host or (port and not port.isdecimal()):
                raise ValueError("not a list of Sentinels: write host:port,host:port")
        return value

    @property
    def is_configured(self) -> bool:
        """Whether someone named a server: then nothing embedded is started."""
        return bool(self.model_fields_set & {"redis_url", "redis_host", "redis_sentinels"})

    @property
    def url(self) -> str:
        """The server's URL, password included: never log it."""
        whole = self.redis_url.get_secret_value()
        if whole:
            # REDIS_USE_SSL holds for a URL as well: nobody who sets it wants the clear.
            plain = self.redis_use_ssl and whole.startswith("redis://")
            return whole.replace("redis://", "rediss://", 1) if plain else whole
        user = quote(self.redis_username, safe="")
        password = quote(self.redis_password.get_secret_value(), safe="")
        login = f"{user}:{password}@" if user or password else ""
        if self.redis_use_sentinel:
            return ";".join(f"sentinel://{login}{host}/{self.redis_db}" for host in self._hosts())
        scheme = "rediss" if self.redis_use_ssl else "redis"
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        return f"{scheme}://{login}{host}:{self.redis_port}/{self.redis_db}"

    def _hosts(self) -> list[str]:
        hosts = [host.strip() for host in self.redis_sentinels.split(",") if host.strip()]
        return [host if ":" in host else f"{host}:{SENTINEL_PORT}" for host in hosts]

    @property
    def login(self) -> SentinelLogin:
        """Of the Sentinels."""
        return SentinelLogin(
            self.redis_sentinel_service_name,
            self.redis_sentinel_username or None,
            self.redis_sentinel_password.get_secret_value() or None,
        )

    @property
    def tls_options(self) -> dict[str, str]:
        """redis-py's TLS arguments, verification on unless switched off by name."""
        paths = {
            "ssl_ca_certs": self.redis_ssl_ca_certs,
            "ssl_certfile": self.redis_ssl_certfile,
            "ssl_keyfile": self.redis_ssl_keyfile,
        }
        return {"ssl_cert_reqs": self.redis_ssl_cert_reqs} | {k: v for k, v in paths.items() if v}
