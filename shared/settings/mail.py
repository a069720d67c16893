"""Mail: the provider, its limits, what the mails look like."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.settings.base import SettingsGroup


class MailSettings(SettingsGroup):
    mail_type: Literal["", "smtp", "resend", "sendgrid"] = Field(
        "", description="smtp, resend or sendgrid; empty: no mail is sent, each row says so."
    )
    mail_default_send_from: str = Field(
        "", description='The sender: mail@example.com, or "Example <mail@example.com>".'
    )
    smtp_server: str = Field("", description="The SMTP server's host name.")
    smtp_port: int = Field(
        465, ge=1, le=65535, description="465 for TLS, 587 for STARTTLS, 25 for plain."
    )
    smtp_username: str = Field("", description="Empty: no login.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Its password.")
    smtp_use_tls: bool = Field(
        default=True, description="Encrypt: TLS from the first byte, or STARTTLS with the next one."
    )
    smtp_opportunistic_tls: bool = Field(
        default=False, description="With SMTP_USE_TLS: begin in plain, then STARTTLS or nothing."
    )
    smtp_verify_certificate: bool = Field(
        default=True, description="false takes any certificate: for a test server only."
    )
    smtp_ca_file: Path | None = Field(
        None, description="PEM file of the authority to trust instead of the system's."
    )
    smtp_local_hostname: str = Field("", description="What EHLO says; empty: the host's own name.")
    resend_api_key: SecretStr = Field(SecretStr(""), description="Resend's API key.")
    resend_api_url: str = Field("https://api.resend.com", description="Resend's address.")
    sendgrid_api_key: SecretStr = Field(SecretStr(""), description="SendGrid's API key.")
    sendgrid_api_url: str = Field("https://api.sendgrid.com", description="SendGrid's address.")
    mail_timeout_seconds: float = Field(
        30, gt=0, description="The longest silence of a mail server that is waited for."
    )
    mail_max_connections: int = Field(
        20, ge=1, description="Connections to the mail server, of each worker process."
    )
    mail_rate_per_second: float = Field(
        50, ge=0, description="Mails per second to the provider, of all workers; 0: no limit."
    )
    mail_recipient_limit: int = Field(
        20, ge=0, description="Mails of one kind to one address within the window; 0: no limit."
    )
    mail_recipient_window_seconds: float = Field(3600, gt=0, description="That window.")
    mail_retention_days: int = Field(
        30, ge=1, description="Age at which ended deliveries are deleted."
    )
    mail_brand_name: str = Field("rag-worker", description="The name mails speak for.")
    mail_brand_color: str = Field("#1f5fbf", description="Of buttons and codes, as #rrggbb.")
    mail_templates_dir: Path | None = Field(
        None, description="Folder whose templates and words go before the built-in ones."
    )
    console_web_url: str = Field(
        "http://localhost:3000", description="Where the links in mails lead."
    )

    @field_validator("mail_brand_color")
    @classmethod
    def _must_be_a_colour(cls, value: str) -> str:
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError("not a colour: write #rrggbb")
        return value

    @field_validator("console_web_url", "resend_api_url", "sendgrid_api_url")
    @classmethod
    def _must_be_a_web_address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("not a web address: it begins with https://")
        return value.rstrip("/")

    @field_validator("mail_brand_name", "mail_default_send_from", "smtp_local_hostname")
    @classmethod
    def _must_be_one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("holds a control character")
        return value

    @model_validator(mode="after")
    def _must_be_complete(self) -> Self:
        needed = {
            "smtp": ("smtp_server",),
            "resend": ("resend_api_key",),
            "sendgrid": ("sendgrid_api_key",),
        }
        if not self.mail_type:
            return self
        for name in ("mail_default_send_from", *needed[self.mail_type]):
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if not text:
                needs = f"MAIL_TYPE={self.mail_type} needs it"
                raise ValueError(f"{name.upper()} is empty, and {needs}")
        return self
