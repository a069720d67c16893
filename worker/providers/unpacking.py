"""The body of an answer, unpacked in pieces that stay small whatever it is packed with."""

import zlib
from collections.abc import Iterable, Iterator

from shared.errors import ServiceUnavailable, SourceUnusable

_PIECE_BYTES = 1 << 18
#: zlib's word for a gzip or a zlib header, whichever is there.
_GZIP_OR_ZLIB = 47


def unpacked(url: str, raw: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Unpack a body.

    Args:
        url: for messages.
        raw: the pieces as they come.
        encoding: the Content-Encoding header's value.

    Raises:
        SourceUnusable: (permanent) it is packed in a way that was not asked for, or not so.
        ServiceUnavailable: (transient) it ends early.
    """
    wanted = encoding.strip().lower()
    if wanted in {"", "identity"}:
        yield from raw
        return
    # One layer of gzip and no more: layers multiply.
    if wanted not in {"gzip", "x-gzip", "deflate"}:
        raise SourceUnusable(f"{url}: the server packs it as {encoding!r}, which was not asked for")
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for packed in raw:
            rest = packed
            while rest and not inflater.eof:
                yield inflater.decompress(rest, _PIECE_BYTES)
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise SourceUnusable(f"{url}: not {wanted}, as the server says: {error}") from error
    # The last bytes may have been taken in whole while their output had no room.
    while not inflater.eof and (piece := inflater.decompress(b"", _PIECE_BYTES)):
        yield piece
    if not inflater.eof:
        raise ServiceUnavailable(f"{url}: the answer ended before it was complete")
