"""ETags: quoted on the wire, bare inside.

Bare means the hexadecimal text alone: d41d8cd98f00b204e9800998ecf8427e, or with -N for N parts.
"""

import re
from dataclasses import dataclass

_MEMBER = re.compile(r'\s*(?P<weak>W/)?(?:"(?P<quoted>[^"]*)"|(?P<bare>[^",\s]+))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class ETags:
    """The entity tags of an If-Match or If-None-Match header."""

    is_any: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def matches(self, etag: str) -> bool:
        """Compare strongly, as If-Match does: weak tags never match (RFC 9110, 8.8.3.2)."""
        return self.is_any or etag in self.strong

    def matches_weakly(self, etag: str) -> bool:
        """Compare weakly, as If-None-Match does."""
        return self.is_any or etag in self.strong or etag in self.weak


def quote(etag: str) -> str:
    """Write a bare ETag as it travels."""
    return f'"{etag}"'


def unquote(etag: str) -> str:
    """Read one ETag of a client, who may have left the quotes away: a part's in a Complete."""
    return etag.strip().removeprefix('"').removesuffix('"')


def parse_etags(header: str) -> ETags:
    """Read a list of ETags; S3 takes them without quotes too. What is malformed matches nothing."""
    if header.strip() == "*":
        return ETags(is_any=True)
    strong: set[str] = set()
    weak: set[str] = set()
    position = 0
    while position < len(header):
        found = _MEMBER.match(header, position)
        if found is None:
            return ETags()
        value = found["quoted"] if found["quoted"] is not None else found["bare"]
        (weak if found["weak"] else strong).add(value)
        position = found.end()
    return ETags(strong=frozenset(strong), weak=frozenset(weak))
