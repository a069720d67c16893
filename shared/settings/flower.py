"""Flower: where it listens, who may look, what it remembers; its own variables' names and units."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup

#: Flower's own login handlers.
PROVIDERS = {
    "google": "flower.views.auth.GoogleAuth2LoginHandler",
    "github": "flower.views.auth.GithubLoginHandler",
    "gitlab": "flower.views.auth.GitLabLoginHandler",
    "okta": "flower.views.auth.OktaLoginHandler",
}


class FlowerSettings(SettingsGroup):
    flower_address: str = Field(
        "127.0.0.1", description="Where Flower listens; beyond this machine only with a login."
    )
    flower_port: int = Field(
        5555, ge=0, le=65535, description="Its port; `rag-worker up` takes a free one."
    )
    flower_basic_auth: SecretStr = Field(
        SecretStr(""),
        description="user:password for Flower, several with commas between; "
        "empty: `rag-worker up` makes one.",
    )
    flower_auth: str = Field(
        "",
        description="Who may log in by OAuth: an address, several with | between, "
        "or .*@example.com.",
    )
    flower_auth_provider: str = Field(
        "",
        description="google, github, gitlab, okta, or the import path of a login handler.",
    )
    flower_oauth2_key: str = Field("", description="The client id that the provider gave.")
    flower_oauth2_secret: SecretStr = Field(SecretStr(""), description="The client's secret.")
    flower_oauth2_redirect_uri: str = Field(
        "", description="Flower's own address for it: https://flower.example.com/login."
    )
    flower_oauth2_okta_base_url: str = Field(
        "", description="Okta's: https://example.okta.com/oauth2."
    )
    flower_github_oauth_domain: str = Field("github.com", description="GitHub, or your own.")
    flower_gitlab_oauth_domain: str = Field("gitlab.com", description="GitLab, or your own.")
    flower_gitlab_auth_allowed_groups: str = Field(
        "", description="Groups of GitLab that may log in, with commas between; empty: any."
    )
    flower_gitlab_min_access_level: int = Field(
        20, ge=0, description="The least role in them: 10 guest, 20 reporter, 30 developer."
    )
    flower_cookie_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs OAuth logins; empty: made at each start, which ends all logins.",
    )
    flower_read_only: bool = Field(
        default=False, description="Flower shows, and changes nothing: no shutdown, no revoke."
    )
    flower_persistent: bool = Field(
        default=True, description="Flower remembers workers and tasks when it starts again."
    )
    flower_db: Path | None = Field(
        None, description="The file it remembers them in; empty: flower in RAG_WORKER_DATA_DIR."
    )
    flower_state_save_interval: int = Field(
        60_000, ge=0, description="Milliseconds between two savings; 0: only when it ends."
    )
    flower_max_tasks: int = Field(
        10_000, ge=1, description="Tasks it keeps; the oldest go first. About 2 kB of memory each."
    )

    @field_validator("flower_auth_provider")
    @classmethod
    def _must_be_a_handler(cls, value: str) -> str:
        if value in PROVIDERS or "." in value or not value:
            return value
        raise ValueError(f"write one of {', '.join(PROVIDERS)}, or a login handler's import path")

    @property
    def login_handler(self) -> str:
        """The import path of the provider's login handler; empty without OAuth."""
        return PROVIDERS.get(self.flower_auth_provider, self.flower_auth_provider)

    def database_file(self, data_folder: Path) -> Path:
        """The file of what it remembers, an absolute path."""
        return (self.flower_db or data_folder / "flower" / "state").absolute()
