"""Redis or Valkey: the guard, live progress and, by default, the broker."""

from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from shared.settings.base import SettingsGroup


class RedisSettings(SettingsGroup):
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="The whole URL (redis://, rediss://, unix://); wins over the parts.",
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
        5, gt=0, description="How long a command or a connection attempt may take."
    )
    redis_max_connections: int = Field(
        200, ge=1, description="Connections a process may open for guards and progress."
    )

    @property
    def is_configured(self) -> bool:
        """Whether someone named a server: then nothing embedded is started."""
        return bool(self.model_fields_set & {"redis_url", "redis_host", "redis_sentinels"})

    def url(self, db: int) -> str:
        """The server's URL with database ``db``, password included: never log it."""
        whole = self.redis_url.get_secret_value()
        if whole:
            return whole
        user = quote(self.redis_username, safe="")
        password = quote(self.redis_password.get_secret_value(), safe="")
        login = f"{user}:{password}@" if user or password else ""
        if self.redis_use_sentinel:
            hosts = [host.strip() for host in self.redis_sentinels.split(",")]
            return ";".join(f"sentinel://{login}{host}/{db}" for host in hosts)
        scheme = "rediss" if self.redis_use_ssl else "redis"
        return f"{scheme}://{login}{self.redis_host}:{self.redis_port}/{db}"

    @property
    def tls_options(self) -> dict[str, str]:
        """redis-py's TLS arguments, verification on unless switched off by name."""
        paths = {
            "ssl_ca_certs": self.redis_ssl_ca_certs,
            "ssl_certfile": self.redis_ssl_certfile,
            "ssl_keyfile": self.redis_ssl_keyfile,
        }
        return {"ssl_cert_reqs": self.redis_ssl_cert_reqs} | {k: v for k, v in paths.items() if v}
