"""A browser upload as the pipeline sees it: who signed the form, and its file as a payload."""

import base64
import hmac
from collections.abc import Mapping

from common.clock import Clock
from gateway.auth.credentials import Credential, CredentialCache
from gateway.auth.form import FilePolicy, Form, FormReader, check_policy
from gateway.auth.payload import Expectations, read_expectations
from gateway.auth.signature import ALGORITHM, UNSIGNED, Verifier, read_scope
from gateway.http.body import RequestBody
from gateway.s3 import errors


class FormPayload:
    """The file of a form; its size is known at its end."""

    size: int | None = None

    def __init__(
        self, reader: FormReader, form: Form, policy: FilePolicy, expected: Expectations
    ) -> None:
        self.form = form
        self._reader = reader
        self._policy = policy
        self._expected = expected

    @property
    def algorithms(self) -> frozenset[str]:
        return self._expected.algorithms

    @property
    def checksum_algorithm(self) -> str | None:
        return self._expected.algorithm

    async def read_into(self, view: memoryview) -> int:
        count = await self._reader.read_into(view)
        if count == 0 or self._reader.file_bytes > self._policy.bytes_max:
            self._policy.check(self._reader.file_bytes)
        return count

    def verify(self, digests: Mapping[str, bytes]) -> None:
        self._expected.verify(digests)


class FormAuthenticator:
    """Reads forms and proves their signatures: version 4, and version 2 as old forms have it."""

    def __init__(
        self, verifier: Verifier, credentials: CredentialCache, clock: Clock, region: str
    ) -> None:
        self._verifier = verifier
        self._credentials = credentials
        self._clock = clock
        self._region = region

    async def read(
        self, body: RequestBody, content_type: str, bucket: str
    ) -> tuple[Credential, FormPayload]:
        """Read a form up to its file.

        raises   AccessDenied (anonymous, policy), InvalidAccessKeyId, SignatureDoesNotMatch,
                 InvalidArgument, MalformedPOSTRequest ...
        """
        reader = FormReader(body, content_type)
        form = await reader.read_fields()
        fields = form.fields
        if "key" not in fields:
            raise _missing("key")
        fields["key"] = fields["key"].replace("${filename}", form.filename)
        if "x-amz-security-token" in fields:
            raise errors.InvalidToken()
        credential = await self._prove(fields)
        policy = check_policy(fields, bucket, self._clock)
        expected = read_expectations(fields, UNSIGNED)
        return credential, FormPayload(reader, form, policy, expected)

    async def _prove(self, fields: Mapping[str, str]) -> Credential:
        if "x-amz-signature" in fields or "x-amz-credential" in fields:
            return await self._prove_version_4(fields)
        if "awsaccesskeyid" in fields or "signature" in fields:
            return await self._prove_version_2(fields)
        if "policy" in fields:
            raise _missing("AWSAccessKeyId")
        raise errors.AccessDenied()

    async def _prove_version_4(self, fields: Mapping[str, str]) -> Credential:
        for name in (
            "policy",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-signature",
        ):
            if name not in fields:
                raise _missing(name)
        if fields["x-amz-algorithm"] != ALGORITHM:
            raise errors.InvalidArgument(ArgumentName="x-amz-algorithm")
        scope = read_scope(
            fields["x-amz-credential"], fields["x-amz-date"], self._region, errors.InvalidArgument
        )
        credential = await self._credential(scope.access_key)
        expected = self._verifier.sign(scope, credential.secret_key, fields["policy"])
        _compare(expected, fields["x-amz-signature"], credential)
        return credential

    async def _prove_version_2(self, fields: Mapping[str, str]) -> Credential:
        for name in ("AWSAccessKeyId", "signature", "policy"):
            if name.lower() not in fields:
                raise _missing(name)
        credential = await self._credential(fields["awsaccesskeyid"])
        digest = hmac.digest(credential.secret_key.encode(), fields["policy"].encode(), "sha1")
        _compare(base64.b64encode(digest).decode(), fields["signature"], credential)
        return credential

    async def _credential(self, access_key: str) -> Credential:
        credential = await self._credentials.get(access_key)
        if credential is None:
            raise errors.InvalidAccessKeyId(AWSAccessKeyId=access_key)
        return credential


def _compare(expected: str, given: str, credential: Credential) -> None:
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise errors.SignatureDoesNotMatch(
            AWSAccessKeyId=credential.access_key, SignatureProvided=given
        )


def _missing(name: str) -> errors.S3Error:
    return errors.InvalidArgument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        "order of the fields.",
        ArgumentName=name,
        ArgumentValue="",
    )
