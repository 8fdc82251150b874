"""Files to text, in the encodings that programs for tasks and spreadsheets write."""

import codecs

from todos.formats.drafts import NotThisFormat

LINES_MAX = 100_000
"""Blank lines included, which cost time, too. In CSV a carriage return alone ends one."""
WORDS_MAX = 2_000_000
"""Spaces, in fact: parsers look at each word."""

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. Raises `NotThisFormat` for any other.

    Bytes that are not UTF-8 become lone surrogates, so that only the lines that have them are refused.
    """
    if content.startswith(_UTF_16):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise NotThisFormat(f"It begins as UTF-16, but byte {error.start} cannot be decoded.") from None
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if "\0" in text[:1000]:
        raise NotThisFormat("It has NUL characters, like UTF-16 without a byte order mark. Save it as UTF-8.")
    return text


def check_size(text: str) -> None:
    """Raises `NotThisFormat` for a text whose parser would take much longer than other texts of the same size."""
    if max(map(text.count, "\n\r")) > LINES_MAX:
        raise NotThisFormat(f"It has more than {LINES_MAX:,} lines. Send it in parts.")
    if text.count(" ") > WORDS_MAX:
        raise NotThisFormat(f"It has more than {WORDS_MAX:,} words. Send it in parts.")


def is_text(text: str) -> bool:
    """Tells if all of it was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
