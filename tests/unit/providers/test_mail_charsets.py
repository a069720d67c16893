import email.message
import email.policy

import pytest

from shared.errors import UnreadableFile
from worker.providers.mail_charsets import mail_as_utf8


def mail(charset, text="Grüße vom Hafen", **more):
    made = email.message.EmailMessage(policy=email.policy.SMTP)
    made.set_content(text, charset=charset, **more)
    made.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream")
    return made.as_bytes()


@pytest.mark.parametrize(
    "content", [mail("utf-8"), mail("us-ascii", "plain"), b"Subject: none\n\nno charset at all\n"]
)
def test_a_mail_in_utf_8_is_passed_on_as_it_is(content):
    assert mail_as_utf8(content, "a.eml") is content


@pytest.mark.parametrize("charset", ["iso-8859-1", "iso-8859-15", "windows-1252"])
@pytest.mark.parametrize("spelled", ["charset", "CHARSET", "charset*"])
def test_a_mail_in_another_encoding_is_in_utf_8_afterwards(charset, spelled):
    content = mail(charset, cte="base64").replace(b"charset", spelled.encode())
    if spelled.endswith("*"):
        content = content.replace(f'*="{charset}"'.encode(), f"*=us-ascii''{charset}".encode())
    read = email.message_from_bytes(mail_as_utf8(content, "a.eml"), policy=email.policy.default)
    body = read.get_body()
    assert body is not None
    assert body.get_content_charset() == "utf-8"
    assert body.get_content().strip() == "Grüße vom Hafen"


@pytest.mark.parametrize("parts", [60, 3000])
def test_parts_in_one_another_are_read_as_far_as_they_can_be(parts):
    content = b"Content-Type: message/rfc822\n\n" * parts + b"Subject: inner\n\ntext\n"
    if parts < 100:
        assert mail_as_utf8(content, "a.eml") is content
    else:
        with pytest.raises(UnreadableFile, match="nests"):
            mail_as_utf8(content, "a.eml")
