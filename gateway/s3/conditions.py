"""Conditional requests: what S3 makes of If-Match and its relatives (RFC 9110, 13.2.2).

On reads they are decided here, against the version that was found. On writes they are only read
here: they must be decided inside the commit, or two writers could both find them true.
"""

from dataclasses import dataclass
from datetime import datetime

from gateway.s3 import errors, text
from gateway.s3.errors import InvalidArgument, NotModified, PreconditionFailed
from gateway.s3.etag import parse_etags, quote


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """The four conditions of a GET, a HEAD or a copy's source, as they came."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None

    def check(self, etag: str, last_modified: datetime) -> None:
        """Raise PreconditionFailed (412) or NotModified (304) unless the version may be read.

        etag           bare
        last_modified  compared in whole seconds, all that an HTTP date can say
        """
        failed = self._failed(etag, last_modified)
        if failed in ("If-Match", "If-Unmodified-Since"):
            raise PreconditionFailed(Condition=failed)
        if failed:
            headers = {"etag": quote(etag), "last-modified": text.format_http(last_modified)}
            raise NotModified(headers=headers)

    def check_copy_source(self, etag: str, last_modified: datetime) -> None:
        """Raise PreconditionFailed unless the version may be copied: a copy has no 304."""
        failed = self._failed(etag, last_modified)
        if failed:
            raise PreconditionFailed(Condition="x-amz-copy-source-" + failed)

    def _failed(self, etag: str, last_modified: datetime) -> str:
        """Name the first condition that does not hold; ETags beat dates of the same sense."""
        moment = last_modified.replace(microsecond=0)
        if self.if_match is not None:
            if not parse_etags(self.if_match).matches(etag):
                return "If-Match"
        elif self.if_unmodified_since is not None and moment > self.if_unmodified_since:
            return "If-Unmodified-Since"
        if self.if_none_match is not None:
            if parse_etags(self.if_none_match).matches_weakly(etag):
                return "If-None-Match"
        elif self.if_modified_since is not None and moment <= self.if_modified_since:
            return "If-Modified-Since"
        return ""


def is_unchanged(if_range: str, etag: str, last_modified: datetime) -> bool:
    """Whether an If-Range still names the version, so that its Range holds (RFC 9110, 13.1.5).

    A client that resumes a download would join bytes of two versions otherwise. What is malformed
    or weak names nothing: the whole is answered.
    """
    try:
        return text.parse_http(if_range) == last_modified.replace(microsecond=0)
    except ValueError:
        etags = parse_etags(if_range)
        return not etags.is_any and len(etags.strong) == 1 and etags.matches(etag)


@dataclass(frozen=True, slots=True)
class WriteConditions:
    """The conditions of a PUT, copy, completion or delete.

    if_match  the bare ETag that the current version must have; "*" for any; None: no condition
    is_new    the key must have no current version
    """

    if_match: str | None = None
    is_new: bool = False

    @property
    def is_empty(self) -> bool:
        return self.if_match is None and not self.is_new


def parse_write_conditions(if_match: str | None, if_none_match: str | None) -> WriteConditions:
    """Read the conditions of a write.

    raises  NotImplemented for what S3 does not do: If-None-Match other than *, several ETags, or
            both headers; InvalidArgument for what is no ETag
    """
    if if_none_match is not None and if_none_match.strip() != "*":
        raise errors.NotImplemented(Header="If-None-Match")
    if if_match is None:
        return WriteConditions(is_new=if_none_match is not None)
    if if_none_match is not None:
        raise errors.NotImplemented(Header="If-Match,If-None-Match")
    etags = parse_etags(if_match)
    if etags.is_any:
        return WriteConditions(if_match="*")
    if len(etags.strong) + len(etags.weak) > 1:
        raise errors.NotImplemented(Header="If-Match")
    if not etags.strong:
        raise InvalidArgument(ArgumentName="If-Match", ArgumentValue=if_match)
    return WriteConditions(if_match=next(iter(etags.strong)))
