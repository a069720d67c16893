"""Addresses a mail may go to, made canonical."""

from shared.errors import InvalidRequest


def mail_address(given: object) -> str:
    """An address as it is stored and handed to a mail server: domain in ASCII, lower case.

    Raises:
        InvalidRequest: it is no address a mail could go to.
    """
    # Here, not above: a producer of documents needs no tables of international domains.
    from email_validator import EmailNotValidError, validate_email

    if not isinstance(given, str):
        raise InvalidRequest(f"a mail address is text, not {type(given).__name__}")
    try:
        found = validate_email(given.strip(" "), allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError as error:
        raise InvalidRequest(f"{given!r} is not a mail address: {error}") from None
    if found.ascii_email is None:
        raise InvalidRequest(f"{given!r} is not a mail address that every server takes")
    return found.ascii_email
