"""Tags of objects and buckets: the x-amz-tagging header, and the rules for a tag set."""

import re
import unicodedata
from collections.abc import Iterable

from common.limits import TAG_KEY_CHARACTERS_MAX, TAG_VALUE_CHARACTERS_MAX
from gateway.s3 import text
from gateway.s3.errors import InvalidArgument, InvalidTag
from gateway.s3.model.bucket import Tag

_PLAIN = re.compile(r"[A-Za-z0-9 +\-=._:/@]*")
_SYMBOLS = frozenset("+-=._:/@ ")
# Letters, digits and spaces of any script; combining marks spell letters.
_CATEGORIES = ("L", "N", "Z", "M")
_RESERVED_PREFIX = "aws:"


def parse_tagging_header(header: str, tags_max: int) -> dict[str, str]:
    """Read x-amz-tagging: tags as a URL query. raises InvalidArgument, InvalidTag."""
    pairs = []
    for part in header.split("&") if header else ():
        key, _, value = part.partition("=")
        pairs.append((_decode(key, header), _decode(value, header)))
    if len({key for key, _ in pairs}) < len(pairs):
        raise _invalid_header(header)
    return check_tags(pairs, tags_max)


def tags_of(tag_set: Iterable[Tag], tags_max: int) -> dict[str, str]:
    """Read the TagSet of a body. raises InvalidTag."""
    return check_tags(((tag.key, tag.value) for tag in tag_set), tags_max)


def check_tags(pairs: Iterable[tuple[str, str]], tags_max: int) -> dict[str, str]:
    """Make a dictionary of tags that keep S3's rules. raises InvalidTag.

    tags_max  OBJECT_TAGS_MAX or BUCKET_TAGS_MAX
    """
    tags: dict[str, str] = {}
    for key, value in pairs:
        _check_tag(key, value)
        if key in tags:
            raise InvalidTag("Cannot provide multiple Tags with the same key", TagKey=key)
        tags[key] = value
        if len(tags) > tags_max:
            raise InvalidTag(f"Tags cannot be greater than {tags_max}")
    return tags


def _check_tag(key: str, value: str) -> None:
    if not 1 <= len(key) <= TAG_KEY_CHARACTERS_MAX or not _is_allowed(key):
        raise InvalidTag("The TagKey you have provided is invalid", TagKey=key)
    if len(value) > TAG_VALUE_CHARACTERS_MAX or not _is_allowed(value):
        raise InvalidTag("The TagValue you have provided is invalid", TagKey=key, TagValue=value)
    if key.lower().startswith(_RESERVED_PREFIX):
        raise InvalidTag("System tags cannot be added/updated by requester", TagKey=key)


def _is_allowed(value: str) -> bool:
    if _PLAIN.fullmatch(value):
        return True
    return all(
        character in _SYMBOLS or unicodedata.category(character).startswith(_CATEGORIES)
        for character in value
    )


def _decode(raw: str, header: str) -> str:
    try:
        return text.decode_percent(raw.replace("+", " "))
    except ValueError as error:
        raise _invalid_header(header) from error


def _invalid_header(header: str) -> InvalidArgument:
    return InvalidArgument(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
        "parameters without tag name duplicates.",
        ArgumentName="x-amz-tagging",
        ArgumentValue=header,
    )
