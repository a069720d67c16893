"""What the mail queue's services need."""

from functools import cache, partial
from typing import Any

from flask import current_app

from shared.settings import Settings
from shared.settings.mail import MailSettings
from shared.submitting.mail import MailRules
from worker.providers.mail_http import MailService, ResendMailer, SendGridMailer
from worker.providers.mailer import Mailer
from worker.providers.smtp import SmtpMailer, SmtpServer
from worker.services.mail.composing import Composer, Look
from worker.services.mail.needs import MailNeeds
from worker.stores.rate_limit import RateLimit
from worker.wiring.foundations import heartbeat, leased_rows, sessions


def mail_needs() -> MailNeeds:
    """A mail's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    mail = settings.mail
    rate = mail.mail_rate_per_second
    return MailNeeds(
        sessions=sessions(),
        rows=leased_rows(),
        mailer=partial(_mailer, mail),
        rate=RateLimit(current_app.extensions["redis"], f"mail:{mail.mail_type}", rate)
        if rate
        else None,
        composer=composer(mail),
        rules=MailRules.of(settings),
        celery=current_app.extensions["celery"],
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=settings.delivery.delivery_max_attempts,
        heartbeat=heartbeat(),
    )


@cache
def composer(mail: MailSettings) -> Composer:
    """What makes mails of the settings' look.

    Raises:
        ConfigurationError: the sender is no address, or the words cannot be read.
    """
    return Composer(
        Look(
            sender=mail.mail_default_send_from,
            brand=mail.mail_brand_name,
            color=mail.mail_brand_color,
            web_url=mail.console_web_url,
            templates=mail.mail_templates_dir,
        )
    )


@cache
def _mailer(mail: MailSettings) -> Mailer | None:
    """The provider, with its connections; one a process."""
    if mail.mail_type == "smtp":
        return SmtpMailer(_smtp_server(mail))
    kinds: dict[str, Any] = {"resend": ResendMailer, "sendgrid": SendGridMailer}
    kind = kinds.get(mail.mail_type)
    if kind is None:
        return None
    url = getattr(mail, f"{mail.mail_type}_api_url")
    key = getattr(mail, f"{mail.mail_type}_api_key").get_secret_value()
    made: Mailer = kind(MailService(url, key, mail.mail_timeout_seconds, mail.mail_max_connections))
    return made


def _smtp_server(mail: MailSettings) -> SmtpServer:
    starts_plain = "starttls" if mail.smtp_opportunistic_tls else "tls"
    return SmtpServer(
        host=mail.smtp_server,
        port=mail.smtp_port,
        encryption=starts_plain if mail.smtp_use_tls else "none",
        username=mail.smtp_username,
        password=mail.smtp_password.get_secret_value(),
        timeout_seconds=mail.mail_timeout_seconds,
        local_hostname=mail.smtp_local_hostname,
        ca_file=mail.smtp_ca_file,
        verify_certificate=mail.smtp_verify_certificate,
        max_connections=mail.mail_max_connections,
    )
