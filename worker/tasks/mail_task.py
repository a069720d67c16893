"""What the mail queue's tasks share: rows instead of content, and nothing secret on show."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, RagWorkerError
from shared.queueing.task import Arguments, FlaskTask
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import KINDS

MASK = "***"
_SHOWN = {"delivery_id", "language"}
_KINDS = {kind.task_name: kind for kind in KINDS}


class MailTask(FlaskTask):
    """A task about one kind of mail.

    Called as Dify's tasks are, its message carries content: that is written into a
    delivery row first, and the mail is sent from there. Whatever waits or comes again
    carries the row's id alone.
    """

    abstract = True
    subject = "mail"
    #: By name: producers need no worker.
    Request = "worker.tasks.masked_request:MaskedRequest"

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *others: Any,
        **options: Any,
    ) -> Any:
        """Celery's own; the fields are checked here, where somebody can still be told.

        Raises:
            InvalidRequest: a field is missing or of the wrong type, or it is no address.
        """
        content = self._content(args or (), kwargs or {})
        if content is not None:
            to, _, fields = content
            _KINDS[self.name].validated(fields)
            if isinstance(to, str):
                mail_address(to)
        shown_args, shown_kwargs = self.shown(args or (), kwargs or {})
        options.setdefault("argsrepr", repr(shown_args))
        options.setdefault("kwargsrepr", repr(shown_kwargs))
        return super().apply_async(args, kwargs, *others, **options)  # type: ignore[arg-type]

    def apply_async_on_commit(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: Session | None = None,
        tenant_id: UUID | None = None,
        **options: Any,
    ) -> UUID:
        """Accept the mail in a session's transaction; see ``shared.submitting.mail``.

        Returns:
            The delivery's id.

        Raises:
            InvalidRequest: a field or the address is wrong.
        """
        from shared.models import db
        from shared.submitting.mail import MailRules, send_mail

        content = self._content(args, kwargs or {})
        opened = db.session() if session is None else session
        if content is None:
            return super().apply_async_on_commit(
                args, kwargs, session=opened, tenant_id=tenant_id, **options
            )
        to, language, fields = content
        rules = MailRules.of(self.flask_app.extensions["settings"])
        kind = _KINDS[self.name].name
        return send_mail(
            opened, kind, to, language, rules=rules, tenant_id=tenant_id, celery=self.app, **fields
        )

    def shown(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """Everything but ids and the language is masked: addresses are nobody's business either."""
        masked = {name: value if name in _SHOWN else MASK for name, value in kwargs.items()}
        return [MASK] * len(args), masked

    def at_rest(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], message_id: UUID
    ) -> Arguments:
        """Write the content into delivery rows; the message keeps the id."""
        from worker.services.mail.accepting import accept_content
        from worker.wiring import mail_needs

        try:
            content = self._content(args, kwargs)
            if content is None:
                return args, kwargs
            to, language, fields = content
            accept_content(message_id, _KINDS[self.name], to, language, fields, mail_needs())
        except InvalidRequest:
            return self.shown(args, kwargs)  # the row, or the dead letter's reason, says why
        return [], {"delivery_id": str(message_id)}

    def abandon(
        self,
        reason: RagWorkerError,
        args: Sequence[Any],  # noqa: ARG002 - content; its row has the message's id
        kwargs: Mapping[str, Any],
    ) -> None:
        """End the delivery as ``failed``, with the reason."""
        from worker.services.mail.giving_up import give_up_mail
        from worker.wiring import mail_needs

        delivery_id = self._delivery_id(kwargs)
        if delivery_id is not None:
            give_up_mail(delivery_id, mail_needs(), str(reason))

    def revive(
        self,
        session: Session,
        args: Sequence[Any],  # noqa: ARG002 - a dead letter has the id
        kwargs: Mapping[str, Any],
    ) -> None:
        """Let the delivery wait again."""
        from worker.services.mail.giving_up import revive_mail

        delivery_id = self._delivery_id(kwargs)
        if delivery_id is not None:
            revive_mail(session, delivery_id)

    def deliver(
        self, delivery_id: str | None, to: Any = "", language: str = "", **fields: Any
    ) -> None:
        """Send the mail of a delivery row; of content, once it is in one.

        Raises:
            InvalidRequest: a field or the address is wrong.
        """
        from worker.services.mail.accepting import accept_content
        from worker.services.mail.sending import deliver_mail
        from worker.wiring import mail_needs

        needs = mail_needs()
        if delivery_id is not None:
            deliver_mail(_uuid(delivery_id), needs)
            return
        message_id = self._message_id()
        for accepted in accept_content(message_id, _KINDS[self.name], to, language, fields, needs):
            deliver_mail(accepted, needs)

    def _message_id(self) -> UUID:
        from worker.delivery.delivered import message_id

        task_id = self.request.id
        return message_id(str(task_id)) if task_id else uuid4()

    def _content(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, str, dict[str, Any]] | None:
        """Address, language and fields; ``None`` of a message that names a row."""
        if kwargs.get("delivery_id") is not None:
            return None
        given = dict(zip(self._names(), args, strict=False)) | dict(kwargs)
        if len(args) > len(self._names()) or "to" not in given:
            raise InvalidRequest(f"{self.name} takes: {', '.join(self._names())}")
        given.pop("delivery_id", None)
        return given.pop("to"), str(given.pop("language", "")), given

    def _names(self) -> list[str]:
        parameters = inspect.signature(self.run).parameters.values()
        return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    def _delivery_id(self, kwargs: Mapping[str, Any]) -> UUID | None:
        given = kwargs.get("delivery_id")
        try:
            # While its first delivery goes on, the row of content has the message's own id.
            return _uuid(given) if given is not None else self._message_id()
        except InvalidRequest:
            return None


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRequest("delivery_id is not a UUID") from None
