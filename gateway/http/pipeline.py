"""From request to reply: the one ordered list of steps that every operation goes through.

What differs between operations is data in the operation table, never another chain. A step fills in
the exchange or raises; whatever is raised becomes an S3 error here, once.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from common import checksum, faults, limits, telemetry
from common.clock import Clock
from gateway.auth import authorize
from gateway.auth.chunked import ChunkDecoder, ChunkSigner
from gateway.auth.credentials import Credential, CredentialCache
from gateway.auth.payload import Expectations, read_expectations, trailer_names
from gateway.auth.presigned import (
    V2_HOISTED,
    V2_PARAMETERS,
    is_presigned,
    read_v2,
    verify_v2,
    with_hoisted,
)
from gateway.auth.signature import (
    STREAMING,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    UNSIGNED,
    Verified,
    Verifier,
    read_claim,
)
from gateway.handlers.context import Context
from gateway.handlers.registry import Handler
from gateway.http.body import RequestBody, read_all
from gateway.http.form import FormAuthenticator, FormPayload
from gateway.http.payload import ChunkedPayload, PlainPayload
from gateway.http.request import HttpReply, HttpRequest
from gateway.objects.buckets import BucketCache, BucketScope
from gateway.s3 import errors
from gateway.s3.address import Address, Addressing, parse_query
from gateway.s3.codec import ROUTER, Operation
from gateway.s3.faults import from_fault
from gateway.s3.support import refuse_unsupported

log = logging.getLogger(__name__)

REQUESTS = Counter("ostraka_s3_requests", "S3 requests", ["operation", "status"])
SECONDS = Histogram(
    "ostraka_s3_request_seconds",
    "Time from the head of a request to its reply's head",
    ["operation"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
IN_FLIGHT = Gauge("ostraka_s3_requests_in_flight", "S3 requests being served")

WITHOUT_SIGNATURE = frozenset({"OptionsObject"})
WITHOUT_BUCKET = frozenset({"CreateBucket", "OptionsObject"})


@dataclass(slots=True)
class Exchange:
    """A request on its way; steps fill it in, in order.

    headers   those of the request, and of a presigned one those in its query
    """

    request: HttpRequest
    headers: dict[str, str]
    address: Address | None = None
    query: Mapping[str, str] | None = None
    operation: Operation | None = None
    verified: Verified | None = None
    credential: Credential | None = None
    expected: Expectations | None = None
    scope: BucketScope | None = None
    payload: PlainPayload | FormPayload | None = None
    shape: Any = None
    result: Any = None


class Pipeline:
    """Serves requests; the HTTP server's one handler."""

    def __init__(  # noqa: PLR0913 - wired in one place
        self,
        registry: Mapping[str, Handler],
        addressing: Addressing,
        credentials: CredentialCache,
        buckets: BucketCache,
        clock: Clock,
        region: str,
    ) -> None:
        self._registry = registry
        self._addressing = addressing
        self._credentials = credentials
        self._buckets = buckets
        self._clock = clock
        self._region = region
        self._verifier = Verifier()
        self._forms = FormAuthenticator(self._verifier, credentials, clock, region)
        self._in_flight = 0
        self.steps: tuple[Callable[[Exchange], Awaitable[None]], ...] = (
            self._find_address,
            self._route,
            self._authenticate,
            self._expect_body,
            self._authorize,
            self._decode,
            self._dispatch,
        )
        IN_FLIGHT.set_function(lambda: self._in_flight)

    async def handle(self, request: HttpRequest) -> HttpReply:
        """Answer a request; never raises."""
        telemetry.request_id.set(request.request_id)
        exchange = Exchange(request, request.headers)
        begun_s = time.perf_counter()
        self._in_flight += 1
        try:
            if self._in_flight > limits.REQUESTS_IN_FLIGHT_MAX:
                raise errors.SlowDown(headers={"retry-after": "1"})
            for step in self.steps:
                await step(exchange)
            reply = self._encode(exchange)
        except errors.S3Error as error:
            reply = _error_reply(request, error)
        except faults.Fault as fault:
            reply = _error_reply(request, self._translated(fault))
        except (ConnectionError, TimeoutError):
            reply = _error_reply(request, errors.RequestTimeout())
        except Exception:
            log.exception("request failed")
            reply = _error_reply(request, errors.InternalError())
        finally:
            self._in_flight -= 1
        name = exchange.operation.name if exchange.operation is not None else "none"
        count, observe = _metrics(name, reply.status)
        count()
        observe(time.perf_counter() - begun_s)
        return reply

    # --- the steps ----------------------------------------------------------------------------

    async def _find_address(self, exchange: Exchange) -> None:
        request = exchange.request
        if sum(map(len, request.headers.values())) > limits.HEADER_BYTES_MAX:
            raise errors.RequestHeaderSectionTooLarge(MaxSizeAllowed=limits.HEADER_BYTES_MAX)
        exchange.address = self._addressing.resolve(
            request.headers.get("host", ""), request.raw_path
        )
        exchange.query = query = parse_query(request.raw_query)
        if query and is_presigned(query):
            exchange.headers = with_hoisted(request.headers, query)

    async def _route(self, exchange: Exchange) -> None:
        request, address = exchange.request, exchange.address
        assert address is not None
        operation = ROUTER.match(
            request.method, address.level, exchange.query or {}, exchange.headers
        )
        if operation is None:
            raise errors.MethodNotAllowed(Method=request.method, ResourceType=address.level)
        exchange.operation = operation

    async def _authenticate(self, exchange: Exchange) -> None:
        request, operation = exchange.request, exchange.operation
        assert operation is not None
        if operation.name == "PostObject":  # signed in its fields, which come in the body
            await self._read_form(exchange)
            return
        query = exchange.query or {}
        if query and await self._authenticate_v2(exchange, query):
            return
        claim = read_claim(request.headers, query, self._region, self._clock)
        if claim is None:
            if operation.name not in WITHOUT_SIGNATURE:
                authorize.require_authenticated(None)
            return
        credential = await self._credential_of(claim.scope.access_key)
        if claim.session_token:
            raise errors.InvalidToken()
        exchange.verified = self._verifier.verify(
            claim,
            credential,
            (request.method, request.raw_path, request.raw_query),
            request.headers,
        )
        exchange.credential = credential

    async def _authenticate_v2(self, exchange: Exchange, query: Mapping[str, str]) -> bool:
        """Prove a presigned URL of version 2; False: it is none."""
        request, address, headers = exchange.request, exchange.address, exchange.headers
        assert address is not None
        claim = read_v2(headers, query, self._clock.now_ns() / 1e9)
        if claim is None:
            return False
        credential = await self._credential_of(claim.access_key)
        if "x-amz-security-token" in query or "x-amz-security-token" in headers:
            raise errors.InvalidToken()
        host_bucket = f"/{address.bucket}" if address.is_virtual_hosted else ""
        named = (request.method, host_bucket + request.raw_path, request.raw_query)
        exchange.verified = verify_v2(claim, credential, named, headers)
        exchange.credential = credential
        hidden = V2_PARAMETERS | V2_HOISTED
        exchange.query = {name: value for name, value in query.items() if name not in hidden}
        return True

    async def _credential_of(self, access_key: str) -> Credential:
        credential = await self._credentials.get(access_key)
        if credential is None:
            raise errors.InvalidAccessKeyId(AWSAccessKeyId=access_key)
        return credential

    async def _read_form(self, exchange: Exchange) -> None:
        request, address = exchange.request, exchange.address
        assert address is not None
        assert isinstance(request.body, RequestBody)
        exchange.credential, exchange.payload = await self._forms.read(
            request.body, request.headers["content-type"], address.bucket
        )

    async def _expect_body(self, exchange: Exchange) -> None:
        operation = exchange.operation
        assert operation is not None
        if operation.body == "none" and exchange.request.body.size == 0:
            return
        verified, headers = exchange.verified, exchange.headers
        if operation.body != "stream" and not operation.checksum:
            # Checksum headers speak of something else: CompleteMultipartUpload's of the object.
            headers = {"content-md5": headers["content-md5"]} if "content-md5" in headers else {}
        signed = verified.payload_hash if verified is not None else UNSIGNED
        exchange.expected = read_expectations(headers, signed)

    async def _authorize(self, exchange: Exchange) -> None:
        operation, address = exchange.operation, exchange.address
        assert operation is not None
        assert address is not None
        if operation.name not in self._registry:
            raise errors.NotImplemented(Operation=operation.name)
        if address.bucket and operation.name not in WITHOUT_BUCKET:
            expected = exchange.headers.get("x-amz-expected-bucket-owner")
            exchange.scope = await self._open_bucket(exchange, address.bucket, expected)

    async def _open_bucket(
        self, exchange: Exchange, name: str, expected_owner: str | None
    ) -> BucketScope:
        credential = authorize.require_authenticated(exchange.credential)
        record = await self._buckets.get(name)

        def check(bucket: Any) -> None:
            authorize.check_bucket(credential, bucket, expected_owner)

        check(record)
        return BucketScope(self._buckets, record, check)

    async def _decode(self, exchange: Exchange) -> None:
        operation, address = exchange.operation, exchange.address
        assert operation is not None
        assert address is not None
        body: Any = None
        if operation.body == "stream":
            if exchange.payload is None:
                _require_length(exchange.request)
                exchange.payload = self._payload(exchange)
            body = exchange.payload
        elif operation.body != "none":
            body = await self._small_body(exchange, operation)
        exchange.shape = operation.decode(
            address.bucket, address.key, exchange.query or {}, exchange.headers, body
        )
        refuse_unsupported(operation, exchange.shape)

    async def _dispatch(self, exchange: Exchange) -> None:
        operation, request = exchange.operation, exchange.request
        assert operation is not None

        async def open_source(name: str, expected_owner: str | None) -> BucketScope:
            return await self._open_bucket(exchange, name, expected_owner)

        scheme = "https" if request.is_tls else "http"
        context = Context(
            caller=exchange.credential,  # type: ignore[arg-type] # None only WITHOUT_SIGNATURE
            request_id=request.request_id,
            region=self._region,
            base_url=f"{scheme}://{request.headers.get('host', '')}",
            open_source=open_source,
            scope=exchange.scope,
            payload=exchange.payload,
            if_range=request.headers.get("if-range"),
        )
        exchange.result = await self._registry[operation.name](context, exchange.shape)

    # --- bodies -------------------------------------------------------------------------------

    def _payload(self, exchange: Exchange) -> PlainPayload:
        request, verified = exchange.request, exchange.verified
        body, expected = request.body, exchange.expected or Expectations()
        assert isinstance(body, RequestBody)
        if verified is None or verified.payload_hash not in STREAMING:
            return PlainPayload(body, expected)
        declared = request.headers.get("x-amz-decoded-content-length", "")
        if not declared.isascii() or not declared.isdigit() or len(declared) > 19:
            raise errors.MissingContentLength()
        signer = None
        if verified.payload_hash in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER):
            signer = ChunkSigner(
                verified.signing_key,
                verified.scope,
                verified.timestamp,
                verified.seed_signature,
            )
        decoder = ChunkDecoder(
            int(declared),
            signer,
            trailer_names(request.headers),
            has_trailer=verified.payload_hash != STREAMING_SIGNED,
        )
        return ChunkedPayload(body, expected, decoder, int(declared))

    async def _small_body(self, exchange: Exchange, operation: Operation) -> bytes:
        """Read an XML or text body and check it against what was declared."""
        payload, expected = self._payload(exchange), exchange.expected or Expectations()
        if payload.size is not None and payload.size > limits.XML_BYTES_MAX:
            raise errors.EntityTooLarge(
                ProposedSize=payload.size, MaxSizeAllowed=limits.XML_BYTES_MAX
            )
        body = await read_all(payload, limits.XML_BYTES_MAX)
        algorithms = payload.algorithms
        payload.verify({name: checksum.digest(name, body) for name in algorithms})
        if operation.checksum == "required" and body and not _is_protected(operation, expected):
            raise errors.InvalidRequest("Missing required header for this request: Content-MD5")
        return body

    # --- replies ------------------------------------------------------------------------------

    def _encode(self, exchange: Exchange) -> HttpReply:
        operation = exchange.operation
        assert operation is not None
        status, headers, body = operation.encode(exchange.result)
        request = exchange.request
        headers["x-amz-request-id"] = request.request_id
        headers["x-amz-id-2"] = request.host_id
        if isinstance(body, bytes):
            return HttpReply(status, headers, body)
        return HttpReply(status, headers, body, body_bytes=int(headers["content-length"]))

    def _translated(self, fault: faults.Fault) -> errors.S3Error:
        error = from_fault(fault)
        if error.status == errors.InternalError.status:
            log.error("request failed", exc_info=fault)
        return error


def _is_protected(operation: Operation, expected: Expectations) -> bool:
    """Whether something proves that the body is the client's.

    S3 insists on a digest of its own for DeleteObjects; elsewhere clients that sign the payload's
    SHA-256 leave it away.
    """
    if expected.md5 is not None or expected.algorithm is not None:
        return True
    return expected.sha256 is not None and operation.name != "DeleteObjects"


def _require_length(request: HttpRequest) -> None:
    """A body without a length and not in chunks has no end. raises MissingContentLength"""
    headers = request.headers
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise errors.MissingContentLength()


@cache
def _metrics(operation: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    """The metrics of an outcome; finding labelled ones costs more than counting does."""
    return REQUESTS.labels(operation, status).inc, SECONDS.labels(operation).observe


def _error_reply(request: HttpRequest, error: errors.S3Error) -> HttpReply:
    headers = {
        "x-amz-request-id": request.request_id,
        "x-amz-id-2": request.host_id,
        **error.headers,
    }
    if errors.is_bodiless(error, request.method):
        return HttpReply(error.status, headers)
    headers["content-type"] = "application/xml"
    body = errors.render_error(error, request.raw_path, request.request_id, request.host_id)
    return HttpReply(error.status, headers, body)
