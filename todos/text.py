"""One rule for text: how it is stored, what of it can be seen, and the form of a tag (D45).

Which texts are alike in a search and in an order is PostgreSQL's to say, by `folded` in `persistence/models.py`.
"""

import re
import unicodedata
from string import whitespace

from pydantic_core import PydanticCustomError

# The space of str.strip(), and what shows nothing, has no effect at an end, and comes along when text is copied.
_AT_ENDS = (
    whitespace
    + "\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
    "\u202f\u205f\u3000\u200b\u2060\ufeff"
)
NOTHING = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
"""What shows nothing, for a class of a regular expression: space, controls, what Unicode says to ignore, and blanks.

Not what Unicode has not assigned: that may be a letter or an emoji that is newer than this Python.
"""
_NOTHING_BEYOND = "\U00013430-\U00013442\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_SOMETHING = re.compile(f"[^{NOTHING}{_NOTHING_BEYOND}]")
LONGEST_SEQUENCE = 4
"""Characters that NFC makes one of, at most."""
_MARKS_MAX = 30
"""Marks of one letter, far beyond any language (UAX #15, Stream-Safe Text). Time to sort them grows with the square."""


def clean(text: str, most: int) -> str:
    """The text in the normal form NFC, which is how it is stored. Raises `PydanticCustomError` for what cannot be.

    A text that would be longer than `most` in any form may come back as it is.
    """
    if "\0" in text:
        raise PydanticCustomError("nul_character", "The character NUL (\\u0000) cannot be stored; leave it out")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("lone_surrogate", "The text has a lone surrogate, which is not a character") from None
    if len(text) > LONGEST_SEQUENCE * most:
        return text
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MARKS_MAX:
            raise PydanticCustomError(
                "too_many_marks", "A letter has at most {most} accents and other marks", {"most": _MARKS_MAX}
            )
    return unicodedata.normalize("NFC", text)


def trimmed(text: str) -> str:
    """Without space at both ends, and without what shows nothing there. Joiners stay, as they are parts of emoji."""
    return text.strip(_AT_ENDS)


def is_visible(text: str) -> bool:
    """Tells if there is something to see; a mark alone has no letter to stand on."""
    for character in text:
        if _SOMETHING.match(character) and not unicodedata.category(character).startswith("M"):
            return True
    return False


def lower_case(text: str) -> str:
    """The form of a tag. A capital sigma becomes what its place in the word asks for; the result may compose anew."""
    return unicodedata.normalize("NFC", text.lower())
