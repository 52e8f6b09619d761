"""Sub-resources that nobody can configure yet: what S3 answers for a bucket that has none.

Tools read these before they do anything else, so they must answer as S3 does for a fresh bucket.
"""

import json

from gateway.handlers.bucket import BucketCalls
from gateway.handlers.context import Context
from gateway.objects.buckets import BucketCache
from gateway.objects.stored import Writers
from gateway.s3 import errors
from gateway.s3.model.access import (
    GetBucketOwnershipControlsOutput,
    GetBucketPolicyStatusOutput,
    GetBucketRequestPaymentOutput,
    GetPublicAccessBlockOutput,
    OwnershipControls,
    OwnershipControlsRule,
    PolicyStatus,
    PublicAccessBlockConfiguration,
    PutBucketOwnershipControlsRequest,
    PutBucketRequestPaymentRequest,
    PutPublicAccessBlockRequest,
)
from gateway.s3.model.configuration import (
    GetBucketAccelerateConfigurationOutput,
    GetBucketLoggingOutput,
    ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsOutput,
    ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsOutput,
    NotificationConfiguration,
)
from gateway.s3.shape import Shape
from proto import meta_pb2

NO_LOCK = "Bucket is missing Object Lock Configuration"
ENFORCED = "BucketOwnerEnforced"
PUBLIC_ACCESS_BLOCK = "publicAccessBlock"
ALL_BLOCKED = json.dumps(
    dict.fromkeys(
        (
            "block_public_acls",
            "ignore_public_acls",
            "block_public_policy",
            "restrict_public_buckets",
        ),
        True,
    )
)


class UnconfiguredHandlers:
    """Bucket sub-resources in their initial state."""

    def __init__(self, meta: BucketCalls, cache: BucketCache, writers: Writers) -> None:
        self._meta = meta
        self._cache = cache
        self._writers = writers

    async def get_bucket_policy(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.NoSuchBucketPolicy(BucketName=name)

    async def get_bucket_policy_status(
        self, context: Context, request: Shape
    ) -> GetBucketPolicyStatusOutput:
        await context.bucket.refresh()
        return GetBucketPolicyStatusOutput(policy_status=PolicyStatus(is_public=False))

    async def get_bucket_cors(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.NoSuchCORSConfiguration(BucketName=name)

    async def get_bucket_lifecycle_configuration(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.NoSuchLifecycleConfiguration(BucketName=name)

    async def get_bucket_website(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.NoSuchWebsiteConfiguration(BucketName=name)

    async def get_bucket_replication(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.ReplicationConfigurationNotFoundError(BucketName=name)

    async def get_object_lock_configuration(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.ObjectLockConfigurationNotFoundError(BucketName=name)

    async def get_object_retention(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.InvalidRequest(NO_LOCK, BucketName=name)

    async def get_object_legal_hold(self, context: Context, request: Shape) -> None:
        name = (await context.bucket.refresh()).name
        raise errors.InvalidRequest(NO_LOCK, BucketName=name)

    async def get_bucket_notification_configuration(
        self, context: Context, request: Shape
    ) -> NotificationConfiguration:
        await context.bucket.refresh()
        return NotificationConfiguration()

    async def get_bucket_logging(self, context: Context, request: Shape) -> GetBucketLoggingOutput:
        await context.bucket.refresh()
        return GetBucketLoggingOutput()

    async def get_bucket_accelerate_configuration(
        self, context: Context, request: Shape
    ) -> GetBucketAccelerateConfigurationOutput:
        await context.bucket.refresh()
        return GetBucketAccelerateConfigurationOutput()

    async def get_bucket_request_payment(
        self, context: Context, request: Shape
    ) -> GetBucketRequestPaymentOutput:
        await context.bucket.refresh()
        return GetBucketRequestPaymentOutput(payer="BucketOwner")

    async def put_bucket_request_payment(
        self, context: Context, request: PutBucketRequestPaymentRequest
    ) -> None:
        await context.bucket.refresh()
        if request.request_payment_configuration.payer != "BucketOwner":
            raise errors.NotImplemented("Requester pays.")

    async def get_bucket_ownership_controls(
        self, context: Context, request: Shape
    ) -> GetBucketOwnershipControlsOutput:
        await context.bucket.refresh()
        rule = OwnershipControlsRule(object_ownership=ENFORCED)
        return GetBucketOwnershipControlsOutput(ownership_controls=OwnershipControls(rules=[rule]))

    async def put_bucket_ownership_controls(
        self, context: Context, request: PutBucketOwnershipControlsRequest
    ) -> None:
        await context.bucket.refresh()
        rules = request.ownership_controls.rules
        if [rule.object_ownership for rule in rules] != [ENFORCED]:
            raise errors.NotImplemented("Object ownership other than BucketOwnerEnforced.")

    async def get_public_access_block(
        self, context: Context, request: Shape
    ) -> GetPublicAccessBlockOutput:
        record = await context.bucket.refresh()
        stored = json.loads(record.configurations.get(PUBLIC_ACCESS_BLOCK, ALL_BLOCKED))
        if stored is None:
            raise errors.NoSuchPublicAccessBlockConfiguration(BucketName=record.name)
        return GetPublicAccessBlockOutput(
            public_access_block_configuration=PublicAccessBlockConfiguration(**stored)
        )

    async def put_public_access_block(
        self, context: Context, request: PutPublicAccessBlockRequest
    ) -> None:
        """Keep the switches. Nothing can be made public yet, so that none has anything to block."""
        wanted = request.public_access_block_configuration
        switches = {name: bool(getattr(wanted, name)) for name in json.loads(ALL_BLOCKED)}
        await self._keep_public_access_block(context, switches)

    async def delete_public_access_block(self, context: Context, request: Shape) -> None:
        """No configuration at all: what S3 then answers is an error."""
        await self._keep_public_access_block(context, None)

    async def _keep_public_access_block(
        self, context: Context, switches: dict[str, bool] | None
    ) -> None:
        record = await context.bucket.refresh()
        reply = await self._meta.update_bucket(
            meta_pb2.UpdateBucket(
                writer=self._writers.writer(),
                name=record.name,
                configuration=PUBLIC_ACCESS_BLOCK,
                value=json.dumps(switches).encode(),
            )
        )
        self._cache.put(reply.bucket)

    async def list_bucket_analytics_configurations(
        self, context: Context, request: Shape
    ) -> ListBucketAnalyticsConfigurationsOutput:
        await context.bucket.refresh()
        return ListBucketAnalyticsConfigurationsOutput(is_truncated=False)

    async def list_bucket_intelligent_tiering_configurations(
        self, context: Context, request: Shape
    ) -> ListBucketIntelligentTieringConfigurationsOutput:
        await context.bucket.refresh()
        return ListBucketIntelligentTieringConfigurationsOutput(is_truncated=False)

    async def list_bucket_inventory_configurations(
        self, context: Context, request: Shape
    ) -> ListBucketInventoryConfigurationsOutput:
        await context.bucket.refresh()
        return ListBucketInventoryConfigurationsOutput(is_truncated=False)

    async def list_bucket_metrics_configurations(
        self, context: Context, request: Shape
    ) -> ListBucketMetricsConfigurationsOutput:
        await context.bucket.refresh()
        return ListBucketMetricsConfigurationsOutput(is_truncated=False)
