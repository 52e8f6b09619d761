"""Escaping of text in XML answers.

Keys and metadata may hold any character; XML 1.0 has no form at all for most control characters.
S3 writes them as character references (&#x1;), which keep the byte but which strict parsers
refuse; a client avoids that by asking for encoding-type=url. Error documents must always parse,
so there they become U+FFFD.
"""

import re

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_NO_FORM = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_SPECIAL = re.compile(f"[&<>\r{_NO_FORM}]")
_SPECIAL_IN_ATTRIBUTE = re.compile(f'[&<>\r\n\t"{_NO_FORM}]')
_UNPRINTABLE = re.compile(f"[{_NO_FORM}]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def _reference(found: re.Match[str]) -> str:
    character = found.group()
    if "\ud800" <= character <= "\udfff":  # not a character: undecodable bytes of a header
        return "\ufffd"
    return _ENTITIES.get(character) or f"&#x{ord(character):x};"


def escape(text: str) -> str:
    """Escape the text of an element; every character survives."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(_reference, text)


def escape_attribute(text: str) -> str:
    """Escape the text of an attribute in double quotes."""
    return _SPECIAL_IN_ATTRIBUTE.sub(_reference, text)


def escape_printable(text: str) -> str:
    """Escape text so that any XML 1.0 parser takes it: what has no form becomes U+FFFD."""
    return escape(_UNPRINTABLE.sub("\ufffd", text))
