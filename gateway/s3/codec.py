"""HTTP to shapes and back: one compiled Operation per S3 operation, and the Router that finds it.

Everything is compiled at start from the generated table; a request costs a few dictionary
look-ups. What an operation does not know is refused, never dropped: a client that asks for
something must not believe it got it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gateway.s3 import errors, text, xml
from gateway.s3.model.operations import OPERATIONS
from gateway.s3.shape import Field, Level, OperationModel, Place, Shape, fields_at

BodyKind = Literal["none", "xml", "text", "stream"]
Encoded = tuple[int, dict[str, str], Any]

LEVELS: tuple[Level, ...] = ("service", "bucket", "object")
QUERY_INTEGER_MAX = 2**31 - 1

# Of authentication, of SDKs and of proxies: no operation's own, read by others or by nobody.
COMMON_HEADERS = frozenset({
    "x-amz-algorithm", "x-amz-api-version", "x-amz-cf-id", "x-amz-content-sha256",
    "x-amz-credential", "x-amz-date", "x-amz-decoded-content-length",
    "x-amz-sdk-checksum-algorithm", "x-amz-security-token", "x-amz-te", "x-amz-trailer",
    "x-amz-user-agent",
})  # fmt: skip
COMMON_QUERY = frozenset({
    "X-Amz-Algorithm", "X-Amz-Content-Sha256", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
    "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-User-Agent",
})  # fmt: skip
# SDKs send the checksum of an XML body in one of these; the model does not list them there.
BODY_CHECKSUM_HEADERS = frozenset(
    f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
)

HEADER_ERRORS: dict[str, type[errors.S3Error]] = {
    "x-amz-storage-class": errors.InvalidStorageClass,
    "x-amz-checksum-algorithm": errors.InvalidRequest,
    "x-amz-sdk-checksum-algorithm": errors.InvalidRequest,
    "x-amz-checksum-type": errors.InvalidRequest,
}
# Of writes only: S3 calls them wrong elsewhere, not unknown.
MISPLACED_HEADERS = frozenset(
    {"x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"}
)
# RFC 9110, 13.1.3: a condition with an invalid date is ignored.
IGNORED_WHEN_INVALID = {"if-modified-since", "if-unmodified-since"}


class Operation:
    """One S3 operation: how to decode its request and encode its result.

    name, method, level   as in the API reference
    request, response     shapes; response is None where the answer has no members
    body                  what decode() expects: nothing, the bytes of an XML document or of a
                          text, or any stream object, which it passes through
    checksum              "", "optional" or "required": of an XML body, in Content-MD5 or one of
                          BODY_CHECKSUM_HEADERS; checked by whoever reads the body
    """

    def __init__(self, model: OperationModel) -> None:
        self.name = model.name
        self.method = model.method
        self.level = model.level
        self.request = model.request
        self.response = model.response
        self.checksum = model.checksum
        self.marks = model.marks
        self.content_type = model.content_type
        self._status = model.status
        self._takes_any_query = model.takes_any_query
        self._compile_request(model.request)
        self._compile_response(model.response)

    def __repr__(self) -> str:
        return f"Operation({self.name})"

    # --- decoding -----------------------------------------------------------------------------

    def _compile_request(self, request: type[Shape]) -> None:
        path = {field.wire: field.name for field in fields_at(request, Place.PATH)}
        self._bucket_member, self._key_member = path.get("Bucket"), path.get("Key")
        self._query = {
            field.wire: (field.name, _query_reader(field))
            for field in fields_at(request, Place.QUERY)
        }
        self._headers: dict[str, tuple[str, text.Read] | None] = dict.fromkeys(COMMON_HEADERS)
        if self.checksum:
            self._headers |= dict.fromkeys((*BODY_CHECKSUM_HEADERS, "x-amz-checksum-algorithm"))
        for field in fields_at(request, Place.HEADER):
            self._headers[field.wire] = (field.name, _header_reader(field))
        prefixes = fields_at(request, Place.HEADER_PREFIX)
        self._metadata = (prefixes[0].name, prefixes[0].wire) if prefixes else None
        self.required_query = _required(request, Place.QUERY)
        self.required_headers = _required(request, Place.HEADER)
        self._compile_body(request)

    def _compile_body(self, request: type[Shape]) -> None:
        self.body: BodyKind = "none"
        self._body_member = ""
        self.is_body_required = False
        self._root = request.__name__
        for field in fields_at(request, Place.BODY):
            self._body_member, self.is_body_required = field.name, field.is_required
            if field.type is Any:
                self.body = "stream"
            elif field.type is str:
                self.body = "text"
            else:
                self.body, self._root = "xml", field.wire
                self._document = xml.shape_reader(field.type)
        if fields_at(request, Place.ELEMENT):  # the request itself is the document
            self.body, self.is_body_required = "xml", True
            self._document = xml.shape_reader(request)

    def decode(
        self,
        bucket: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Any = None,
    ) -> Any:
        """Make the request shape.

        query    decoded names and values
        headers  names in lower case
        body     as `self.body` says
        raises   S3Error: NotImplemented for a parameter or x-amz- header the operation does not
                 know, InvalidArgument or MalformedXML for values of the wrong form
        """
        members: dict[str, Any] = {}
        if self._bucket_member is not None:
            members[self._bucket_member] = bucket
        if self._key_member is not None:
            members[self._key_member] = key
        if query or self.required_query:
            self._decode_query(query, members)
        self._decode_headers(headers, members)
        if self.body != "none":
            self._decode_body(body, members)
        shape = object.__new__(self.request)
        shape.__dict__ = members
        return shape

    def _decode_query(self, query: Mapping[str, str], members: dict[str, Any]) -> None:
        for wire, value in query.items():
            known = self._query.get(wire)
            if known is not None:
                try:
                    members[known[0]] = known[1](value)
                except ValueError as error:
                    raise _invalid(errors.InvalidArgument, wire, value) from error
            elif not (
                wire in self.marks
                or wire in COMMON_QUERY
                or wire.startswith("x-")  # S3: for the caller's own access log
                or self._takes_any_query
            ):
                raise errors.NotImplemented(
                    "A parameter you provided implies functionality that is not implemented",
                    Parameter=wire,
                )
        for wire in self.required_query:
            if wire not in query:
                raise errors.InvalidArgument(
                    f"Missing required parameter: {wire}", ArgumentName=wire
                )

    def _decode_headers(self, headers: Mapping[str, str], members: dict[str, Any]) -> None:
        known_headers = self._headers
        metadata: dict[str, str] = {}
        for wire, value in headers.items():
            known = known_headers.get(wire)
            if known is not None:
                try:
                    members[known[0]] = known[1](value)
                except ValueError as error:
                    code = HEADER_ERRORS.get(wire, errors.InvalidArgument)
                    raise _invalid(code, wire, value) from error
            elif wire.startswith("x-amz-") and wire not in known_headers:
                if self._metadata is None or not wire.startswith(self._metadata[1]):
                    raise _unknown_header(wire, value)
                metadata[wire[len(self._metadata[1]) :]] = value
        if metadata and self._metadata is not None:
            members[self._metadata[0]] = metadata
        for wire in self.required_headers:
            if wire not in headers:
                raise errors.InvalidRequest(f"Missing required header: {wire}", Header=wire)

    def _decode_body(self, body: Any, members: dict[str, Any]) -> None:
        if self.body == "stream":
            members[self._body_member] = body
            return
        if not body:
            if self.is_body_required:
                raise errors.MissingRequestBodyError
            return
        if self.body == "text":
            try:
                members[self._body_member] = body.decode()
            except UnicodeDecodeError as error:
                raise errors.MalformedPolicy from error
            return
        document = xml.parse(self._root, self._document, body)
        if self._body_member:
            members[self._body_member] = document
        else:
            members |= document.__dict__

    # --- encoding -----------------------------------------------------------------------------

    def _compile_response(self, response: type[Shape] | None) -> None:
        self._out_headers = {
            field.name: (field.wire, text.writer(field.type, field.time or "http"))
            for field in fields_at(response, Place.HEADER)
        }
        prefixes = fields_at(response, Place.HEADER_PREFIX)
        self._out_metadata = (prefixes[0].name, prefixes[0].wire) if prefixes else None
        self._out_status = next((f.name for f in fields_at(response, Place.STATUS)), "")
        self._has_range = any(wire == "content-range" for wire, _ in self._out_headers.values())
        self._write_body: Callable[[Any], Any] | None = None
        self._out_body = ""
        for field in fields_at(response, Place.BODY):
            self._out_body = field.name
            self._write_body = _body_writer(field)
        if response is not None and fields_at(response, Place.ELEMENT):
            write = xml.shape_writer(response, response.wire_root, xml.ROOT_NAMESPACE)
            self._write_body = lambda result: xml.dump(write, result)
        self._content_type = _content_type(response)
        # An empty LocationConstraint is us-east-1, not an empty body.
        self._answers_empty_document = self.name == "GetBucketLocation"

    def encode(self, result: Shape | None = None) -> Encoded:
        """Make the answer: status, headers (lower case), body.

        result   of the response shape; None where the operation answers without members
        returns  body is bytes, or the stream object of the result as it is; a result with
                 content_range is 206 Partial Content
        """
        if result is None:
            return self._status, {}, b""
        assert self.response is type(result), f"{self.name} does not answer {type(result).__name__}"
        get = result.__dict__.get
        known, headers = self._out_headers, {}
        for name, value in result.__dict__.items():
            if value is not None and name in known:
                wire, write = known[name]
                headers[wire] = write(value)
        if self._out_metadata is not None:
            name, prefix = self._out_metadata
            for key, value in (get(name) or {}).items():
                headers[prefix + key] = value
        status: int = (self._out_status and get(self._out_status)) or self._status
        if self._has_range and "content-range" in headers:
            status = 206
        return status, headers, self._encode_body(result, headers)

    def _encode_body(self, result: Shape, headers: dict[str, str]) -> Any:
        value = getattr(result, self._out_body) if self._out_body else result
        if self._write_body is None:
            return b"" if value is None or value is result else value
        if value is None and not self._answers_empty_document:
            return b""
        headers["content-type"] = self._content_type
        return self._write_body(value)


XML_TYPE = "application/xml"


def _required(shape: type[Shape], place: Place) -> tuple[str, ...]:
    return tuple(field.wire for field in fields_at(shape, place) if field.is_required)


def _invalid(code: type[errors.S3Error], wire: str, value: str) -> errors.S3Error:
    return code(ArgumentName=wire, ArgumentValue=value)


def _unknown_header(wire: str, value: str) -> errors.S3Error:
    if wire in MISPLACED_HEADERS:
        return errors.InvalidArgument(
            f"{wire} header is not supported for this operation.",
            ArgumentName=wire,
            ArgumentValue=value,
        )
    return errors.NotImplemented(Header=wire)


def _query_reader(field: Field) -> text.Read:
    read = _scalar_reader(field, "iso")
    if field.type is int:
        return _bounded(read, QUERY_INTEGER_MAX)
    if field.wire.startswith("response-"):
        return _header_safe
    return read


def _header_reader(field: Field) -> text.Read:
    read = _scalar_reader(field, "http")
    if field.is_list:
        return lambda value: [read(item.strip()) for item in value.split(",")]
    if field.type is int:
        return _bounded(read, text.INTEGER_MAX)
    if field.wire in IGNORED_WHEN_INVALID:
        return _or_none(read)
    return read


def _scalar_reader(field: Field, time: str) -> text.Read:
    read = text.reader(field.value_type, field.time or time)
    if not field.enum:
        return read
    # The C++ SDK asks for checksum mode `enabled`, and S3 knows it by that.
    is_of_checksum = field.wire.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))
    return text.one_of(field.enum, read, in_any_case=is_of_checksum)


def _bounded(read: text.Read, maximum: int) -> text.Read:
    def read_bounded(value: str) -> int:
        number: int = read(value)
        if not 0 <= number <= maximum:
            raise ValueError(f"not between 0 and {maximum}: {value}")
        return number

    return read_bounded


def _or_none(read: text.Read) -> text.Read:
    def read_or_none(value: str) -> Any:
        try:
            return read(value)
        except ValueError:
            return None

    return read_or_none


def _header_safe(value: str) -> str:
    """Read what becomes a header of the answer; with line ends it could add others."""
    if any(character < " " for character in value):
        raise ValueError("control character")
    return value


def _body_writer(field: Field) -> Callable[[Any], Any] | None:
    if field.type is Any:
        return None
    if field.type is str and field.wire == "LocationConstraint":
        write = xml.scalar_writer(field.wire, field, xml.ROOT_NAMESPACE)
        return lambda value: xml.dump(write, value or "")
    if field.type is str:
        return lambda value: value.encode()
    write = xml.shape_writer(field.type, field.wire, xml.ROOT_NAMESPACE)
    return lambda value: xml.dump(write, value)


def _content_type(response: type[Shape] | None) -> str:
    is_policy = any(field.wire == "Policy" for field in fields_at(response, Place.BODY))
    return "application/json" if is_policy else XML_TYPE


class Router:
    """Finds the operation of a request.

    Operations of one method and level differ by the query parameters that name them (marks, or
    required parameters), then by required headers. The most specific one whose needs are met
    wins; where a mark is there but a required parameter is missing, the least specific one of
    that mark is taken, and says on decoding what is missing. It must never be the operation
    without the mark: DELETE ?analytics without its id is not DeleteBucket.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._marked: dict[tuple[str, str], dict[str, list[Operation]]] = {}
        self._plain: dict[tuple[str, str], list[Operation]] = {}
        for operation in sorted(operations, key=_specificity, reverse=True):
            levels = LEVELS if operation.method == "OPTIONS" else (operation.level,)
            for level in levels:
                self._add(operation, (operation.method, level))

    def _add(self, operation: Operation, place: tuple[str, str]) -> None:
        names = tuple(operation.marks)[:1] or operation.required_query
        if not names:
            self._plain.setdefault(place, []).append(operation)
        for name in names:
            self._marked.setdefault(place, {}).setdefault(name, []).append(operation)

    def match(
        self, method: str, level: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Operation | None:
        """Find the operation; None if the resource has none for this method.

        headers  names in lower case
        """
        place = (method, level)
        if query and (marked := self._marked.get(place)):
            candidates = [
                operation
                for name in query
                if name in marked
                for operation in marked[name]
                if _has_marks(operation, query)
            ]
            if candidates:
                candidates.sort(key=_specificity, reverse=True)
                return _first_satisfied(candidates, query, headers) or candidates[-1]
        return _first_satisfied(self._plain.get(place, ()), query, headers)


def _specificity(operation: Operation) -> tuple[int, int]:
    needs = len(operation.required_query) + len(operation.required_headers)
    return len(operation.marks), needs


def _has_marks(operation: Operation, query: Mapping[str, str]) -> bool:
    return all(
        name in query and (value in ("", "*") or query[name] == value)
        for name, value in operation.marks.items()
    )


def _first_satisfied(
    operations: Sequence[Operation], query: Mapping[str, str], headers: Mapping[str, str]
) -> Operation | None:
    for operation in operations:
        if (
            all(name in query for name in operation.required_query)
            and all(name in headers for name in operation.required_headers)
            and headers.get("content-type", "").startswith(operation.content_type)
        ):
            return operation
    return None


OPERATIONS_BY_NAME: dict[str, Operation] = {row.name: Operation(row) for row in OPERATIONS}
ROUTER = Router(tuple(OPERATIONS_BY_NAME.values()))
