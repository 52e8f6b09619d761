"""Buckets: create, head, delete, list; their tags, versioning and default encryption."""

import json
from typing import Protocol

from common import faults, limits
from gateway.handlers.context import Context, owner_of, page_size, time_of
from gateway.objects.buckets import BucketCache
from gateway.objects.stored import Writers
from gateway.s3 import address, errors, tagging, tokens
from gateway.s3.model.bucket import (
    CreateBucketOutput,
    CreateBucketRequest,
    DeleteBucketEncryptionRequest,
    DeleteBucketRequest,
    DeleteBucketTaggingRequest,
    GetBucketEncryptionOutput,
    GetBucketEncryptionRequest,
    GetBucketLocationOutput,
    GetBucketLocationRequest,
    GetBucketTaggingOutput,
    GetBucketTaggingRequest,
    GetBucketVersioningOutput,
    GetBucketVersioningRequest,
    HeadBucketOutput,
    HeadBucketRequest,
    PutBucketEncryptionRequest,
    PutBucketTaggingRequest,
    PutBucketVersioningRequest,
    ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule,
    Tag,
)
from gateway.s3.model.listing import Bucket, ListBucketsOutput, ListBucketsRequest
from proto import meta_pb2, records_pb2

LEGACY_REGION = "us-east-1"  # shown as an empty LocationConstraint; re-creation answers 200 there
TAGGING = "tagging"
SHOWN_VERSIONING = {
    records_pb2.Bucket.NEVER: None,
    records_pb2.Bucket.ENABLED: "Enabled",
    records_pb2.Bucket.SUSPENDED: "Suspended",
}
LIST_BUCKETS_MAX = 10_000


class BucketCalls(Protocol):
    """The calls of the metadata client that bucket handlers make."""

    async def create_bucket(self, request: meta_pb2.CreateBucket) -> meta_pb2.BucketReply: ...
    async def delete_bucket(self, request: meta_pb2.DeleteBucket) -> meta_pb2.BucketReply: ...
    async def list_buckets(self, request: meta_pb2.ListBuckets) -> meta_pb2.ListBucketsReply: ...
    async def update_bucket(self, request: meta_pb2.UpdateBucket) -> meta_pb2.BucketReply: ...


class BucketHandlers:
    """The bucket resource."""

    def __init__(self, meta: BucketCalls, cache: BucketCache, writers: Writers) -> None:
        self._meta = meta
        self._cache = cache
        self._writers = writers

    async def create_bucket(
        self, context: Context, request: CreateBucketRequest
    ) -> CreateBucketOutput:
        address.check_bucket_name(request.bucket)
        _check_location(request, context.region)
        refuse_acl(request.acl)
        if request.object_ownership not in (None, "BucketOwnerEnforced"):
            raise errors.NotImplemented("Object ownership other than BucketOwnerEnforced.")
        caller = context.caller
        record = records_pb2.Bucket(
            name=request.bucket,
            owner_account=caller.account_id,
            owner_id=caller.canonical_id,
            region=context.region,
        )
        configuration = request.create_bucket_configuration
        if configuration is not None and configuration.tags:
            record.configurations[TAGGING] = _stored_tags(configuration.tags)
        try:
            reply = await self._meta.create_bucket(
                meta_pb2.CreateBucket(writer=self._writers.writer(), bucket=record)
            )
        except faults.AlreadyExists as taken:
            if taken.owner != caller.account_id:
                raise errors.BucketAlreadyExists(BucketName=request.bucket) from taken
            if context.region != LEGACY_REGION:
                raise errors.BucketAlreadyOwnedByYou(BucketName=request.bucket) from taken
        else:
            self._cache.put(reply.bucket)
        return CreateBucketOutput(location=f"/{request.bucket}")

    async def head_bucket(self, context: Context, request: HeadBucketRequest) -> HeadBucketOutput:
        record = await context.bucket.refresh()
        return HeadBucketOutput(bucket_region=record.region, access_point_alias=False)

    async def delete_bucket(self, context: Context, request: DeleteBucketRequest) -> None:
        try:
            await self._meta.delete_bucket(
                meta_pb2.DeleteBucket(
                    writer=self._writers.writer(),
                    name=request.bucket,
                    owner_account=context.bucket.record.owner_account,
                )
            )
        finally:
            self._cache.forget(request.bucket)

    async def list_buckets(
        self, context: Context, request: ListBucketsRequest
    ) -> ListBucketsOutput:
        limit = page_size(request.max_buckets, "max-buckets", LIST_BUCKETS_MAX)
        if limit == 0:
            raise errors.InvalidArgument(
                "max-buckets must be between 1 and 10000", ArgumentName="max-buckets"
            )
        token = request.continuation_token
        start_after = tokens.decode_token(token) if token else ""
        buckets: list[records_pb2.Bucket] = []
        if request.bucket_region in (None, context.region):
            page = await self._meta.list_buckets(
                meta_pb2.ListBuckets(
                    owner_account=context.caller.account_id,
                    prefix=request.prefix or "",
                    start_after=start_after,
                    limit=limit,
                )
            )
            buckets, is_truncated = list(page.buckets), page.truncated
        else:
            is_truncated = False
        return ListBucketsOutput(
            buckets=[
                Bucket(
                    name=bucket.name,
                    creation_date=time_of(bucket.created_ns),
                    bucket_region=bucket.region,
                )
                for bucket in buckets
            ],
            owner=owner_of(context.caller.canonical_id, context.caller.display_name),
            continuation_token=tokens.encode_token(buckets[-1].name) if is_truncated else None,
            prefix=request.prefix,
        )

    async def get_bucket_location(
        self, context: Context, request: GetBucketLocationRequest
    ) -> GetBucketLocationOutput:
        region = (await context.bucket.refresh()).region
        return GetBucketLocationOutput(
            location_constraint="" if region == LEGACY_REGION else region
        )

    async def get_bucket_versioning(
        self, context: Context, request: GetBucketVersioningRequest
    ) -> GetBucketVersioningOutput:
        record = await context.bucket.refresh()
        return GetBucketVersioningOutput(status=SHOWN_VERSIONING[record.versioning])

    async def put_bucket_versioning(
        self, context: Context, request: PutBucketVersioningRequest
    ) -> None:
        configuration = request.versioning_configuration
        if configuration.mfa_delete == "Enabled" or request.mfa is not None:
            raise errors.NotImplemented("MFA delete.")
        if configuration.status is None:
            raise errors.IllegalVersioningConfigurationException()
        versioning = (
            records_pb2.Bucket.ENABLED
            if configuration.status == "Enabled"
            else records_pb2.Bucket.SUSPENDED
        )
        await self._update(
            meta_pb2.UpdateBucket(name=request.bucket, set_versioning=True, versioning=versioning)
        )

    async def get_bucket_tagging(
        self, context: Context, request: GetBucketTaggingRequest
    ) -> GetBucketTaggingOutput:
        record = await context.bucket.refresh()
        stored = record.configurations.get(TAGGING)
        if stored is None:
            raise errors.NoSuchTagSet(BucketName=request.bucket)
        return GetBucketTaggingOutput(
            tag_set=[Tag(key=key, value=value) for key, value in json.loads(stored)]
        )

    async def put_bucket_tagging(self, context: Context, request: PutBucketTaggingRequest) -> None:
        await self._update(
            meta_pb2.UpdateBucket(
                name=request.bucket,
                configuration=TAGGING,
                value=_stored_tags(request.tagging.tag_set or []),
            )
        )

    async def delete_bucket_tagging(
        self, context: Context, request: DeleteBucketTaggingRequest
    ) -> None:
        await self._update(
            meta_pb2.UpdateBucket(name=request.bucket, configuration=TAGGING, remove=True)
        )

    async def get_bucket_encryption(
        self, context: Context, request: GetBucketEncryptionRequest
    ) -> GetBucketEncryptionOutput:
        await context.bucket.refresh()
        rule = ServerSideEncryptionRule(
            apply_server_side_encryption_by_default=ServerSideEncryptionByDefault(
                sse_algorithm="AES256"
            ),
            bucket_key_enabled=False,
        )
        return GetBucketEncryptionOutput(
            server_side_encryption_configuration=ServerSideEncryptionConfiguration(rules=[rule])
        )

    async def put_bucket_encryption(
        self, context: Context, request: PutBucketEncryptionRequest
    ) -> None:
        """SSE-S3 is always on, so that asking for it changes nothing; other methods are refused."""
        await context.bucket.refresh()
        rules = request.server_side_encryption_configuration.rules
        if len(rules) != 1:
            raise errors.MalformedXML()
        default = rules[0].apply_server_side_encryption_by_default
        if default is None or default.sse_algorithm != "AES256":
            raise errors.NotImplemented("Default encryption other than AES256.")
        if default.kms_master_key_id is not None:
            raise errors.InvalidArgument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
                ArgumentName="ApplyServerSideEncryptionByDefault",
            )

    async def delete_bucket_encryption(
        self, context: Context, request: DeleteBucketEncryptionRequest
    ) -> None:
        """Back to the default, which is SSE-S3."""
        await context.bucket.refresh()

    async def _update(self, request: meta_pb2.UpdateBucket) -> None:
        request.writer.CopyFrom(self._writers.writer())
        reply = await self._meta.update_bucket(request)
        self._cache.put(reply.bucket)


def refuse_acl(acl: str | None) -> None:
    """With BucketOwnerEnforced, the default, only ACLs that say what holds anyway are taken.

    raises   AccessControlListNotSupported
    """
    if acl not in (None, "private", "bucket-owner-full-control"):
        raise errors.AccessControlListNotSupported()


def _check_location(request: CreateBucketRequest, region: str) -> None:
    configuration = request.create_bucket_configuration
    if configuration is not None and (configuration.location or configuration.bucket):
        raise errors.NotImplemented("Directory buckets.")
    constraint = configuration.location_constraint if configuration is not None else None
    if constraint is None:
        # Without a constraint S3 means us-east-1; a single-region endpoint means its own.
        return
    if constraint != region or constraint == LEGACY_REGION:
        if constraint == LEGACY_REGION == region:
            raise errors.InvalidLocationConstraint(LocationConstraint=constraint)
        raise errors.IllegalLocationConstraintException(
            f"The {constraint} location constraint is incompatible for the region specific "
            "endpoint this request was sent to."
        )


def _stored_tags(tags: list[Tag]) -> bytes:
    return json.dumps(list(tagging.tags_of(tags, limits.BUCKET_TAGS_MAX).items())).encode()
