"""Real files of awkward kinds, made in memory."""

import hashlib
import io
import struct
import zipfile

_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
    'relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.'
    'openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_DOCUMENT = (
    '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/'
    'wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:body></w:document>'
)
_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_FONT = b"<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
_PDF_ID = b"0123456789abcdef"

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
ELF = b"\x7fELF" + bytes(400)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def zip_file(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(text: str, **more: bytes) -> bytes:
    return zip_file(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _RELATIONS,
            "word/document.xml": _DOCUMENT.format(text),
            **more,
        }
    )


def understated(archive: bytes) -> bytes:
    """The archive with every member's unpacked size given as 10 bytes."""
    content = bytearray(archive)
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) != -1:
        struct.pack_into("<I", content, at + 24, 10)
        local = struct.unpack_from("<I", content, at + 42)[0]
        struct.pack_into("<I", content, local + 22, 10)
    return bytes(content)


def flagged_encrypted(archive: bytes) -> bytes:
    content = bytearray(archive)
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) != -1:
        content[at + 8] |= 1
    return bytes(content)


def pdf(text: str, password: str | None = None) -> bytes:
    """One page; with a password, by the standard's first revision (RC4, 40 bits)."""
    stream, encryption = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode(), b""
    if password:
        padded = (password.encode() + _PADDING)[:32]
        owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
        minus_four = (-4).to_bytes(4, "little", signed=True)
        key = hashlib.md5(padded + owner + minus_four + _PDF_ID).digest()[:5]
        user = _rc4(key, _PADDING)
        stream = _rc4(hashlib.md5(key + b"\x04\0\0\0\0").digest()[:10], stream)
        owner_hex, user_hex = owner.hex().encode(), user.hex().encode()
        encryption = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>" % (
            owner_hex,
            user_hex,
        )
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources %s>>" % _FONT,
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
    ]
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    identity = _PDF_ID.hex().encode()
    return content + (
        b"xref\n0 5\n0000000000 65535 f \n%strailer<</Size 5/Root 1 0 R/ID[<%s><%s>]%s>>\n"
        b"startxref\n%d\n%%%%EOF\n" % (table, identity, identity, encryption, len(content))
    )


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
