"""docs/s3.md: what of S3 is supported, written from the tables that the gateway runs on."""

from collections.abc import Collection

from gateway.s3.codec import COMMON_HEADERS, OPERATIONS_BY_NAME, Operation
from gateway.s3.support import FEATURES, refused_features

AREA_TITLES = {
    "bucket": "Buckets",
    "object": "Objects",
    "multipart": "Multipart uploads",
    "listing": "Listings",
    "access": "Access",
    "configuration": "Bucket configurations",
}

INTRODUCTION = """\
# S3 operations

Generated from the operation table, the handlers and the support table; a test keeps it current.

{implemented} of {known} operations are implemented. The others are known to the router and answer
`501 NotImplemented`. Nothing is ignored in silence: a query parameter, an `x-amz-` header or an XML
element that an operation does not know is refused, and so are the features listed at the end.
Parameters that begin with `x-` are for the caller's own logs, as in S3, and the headers of
signatures and SDKs are taken everywhere: {headers}.

**Addressing.** Path style (`http://host/bucket/key`) always; virtual hosting
(`http://bucket.domain/key`) for each of the configured `domains`, also for buckets with dots. Any
other host is path style. A path is decoded once and never normalised, so `a//b`, `../a` and `%2F`
sent as `%252F` are keys like any other; `%2F` and `/` in a path name the same key.

**Signatures.** Version 4: header, query (presigned, up to 7 days), signed and unsigned chunks with
and without trailers, unsigned payload, browser forms. A path may be signed with every byte encoded
once, as S3 says, or as it was sent. Presigned URLs and forms of version 2 are taken too, since
clients still make them; requests signed by version 2 in a header are not. Headers `x-amz-...` in
the query of a presigned URL count as headers. Session tokens are refused.
"""


def render(implemented: Collection[str]) -> str:
    """Write docs/s3.md.

    implemented  names of the operations that have a handler
    raises       ValueError for a name that is no operation
    """
    unknown = set(implemented) - OPERATIONS_BY_NAME.keys()
    if unknown:
        raise ValueError(f"not S3 operations: {', '.join(sorted(unknown))}")
    parts = [
        INTRODUCTION.format(
            implemented=len(set(implemented)),
            known=len(OPERATIONS_BY_NAME),
            headers=", ".join(f"`{name}`" for name in sorted(COMMON_HEADERS)),
        )
    ]
    for area, title in AREA_TITLES.items():
        rows = [o for o in OPERATIONS_BY_NAME.values() if _area(o) == area]
        parts.append(_section(title, rows, implemented))
    parts.append(_features(implemented))
    return "\n".join(parts)


def _area(operation: Operation) -> str:
    return operation.request.__module__.rpartition(".")[2]


def _section(title: str, operations: list[Operation], implemented: Collection[str]) -> str:
    lines = [f"## {title}", "", "| operation | request | supported |", "|---|---|---|"]
    for operation in sorted(operations, key=lambda operation: operation.name):
        state = "yes" if operation.name in implemented else "no (501)"
        lines.append(f"| {operation.name} | `{_request_line(operation)}` | {state} |")
    return "\n".join([*lines, ""])


def _request_line(operation: Operation) -> str:
    path = {"service": "/", "bucket": "/bucket", "object": "/bucket/key"}[operation.level]
    query = [f"{n}={v}" if v not in ("", "*") else n for n, v in operation.marks.items()]
    query += [name for name in operation.required_query if name not in operation.marks]
    return f"{operation.method} {path}{'?' if query else ''}{'&'.join(query)}"


def _features(implemented: Collection[str]) -> str:
    lines = [
        "## Refused on supported operations",
        "",
        "| feature | answer | still accepted | operations |",
        "|---|---|---|---|",
    ]
    for feature in FEATURES:
        names = sorted(name for name in implemented if feature in refused_features(name))
        if names:
            accepted = ", ".join(f"`{_value(value)}`" for value in feature.accepted) or "nothing"
            answer = f"{feature.error.status} {feature.error.code}"
            lines.append(f"| {feature.title} | {answer} | {accepted} | {', '.join(names)} |")
    return "\n".join([*lines, ""])


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
