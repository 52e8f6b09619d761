"""Sub-resources that nobody can configure yet: what S3 answers for a bucket that has none.

Tools read these before they do anything else, so they must answer as S3 does for a fresh bucket.
"""

from gateway.handlers.bucket import refuse_acl
from gateway.handlers.context import Context, owner_of
from gateway.s3 import errors
from gateway.s3.model.access import (
    GetBucketAclOutput,
    GetBucketOwnershipControlsOutput,
    GetBucketPolicyStatusOutput,
    GetBucketRequestPaymentOutput,
    GetPublicAccessBlockOutput,
    Grant,
    Grantee,
    OwnershipControls,
    OwnershipControlsRule,
    PolicyStatus,
    PublicAccessBlockConfiguration,
    PutBucketAclRequest,
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

ENFORCED = "BucketOwnerEnforced"


class UnconfiguredHandlers:
    """Bucket sub-resources in their initial state."""

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

    async def get_bucket_acl(self, context: Context, request: Shape) -> GetBucketAclOutput:
        record = await context.bucket.refresh()
        return GetBucketAclOutput(
            owner=owner_of(record.owner_id, context.caller.display_name),
            grants=[full_control(record.owner_id, context.caller.display_name)],
        )

    async def put_bucket_acl(self, context: Context, request: PutBucketAclRequest) -> None:
        await context.bucket.refresh()
        if request.acl is None:
            raise errors.AccessControlListNotSupported()
        refuse_acl(request.acl)

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
        await context.bucket.refresh()
        return GetPublicAccessBlockOutput(
            public_access_block_configuration=PublicAccessBlockConfiguration(
                block_public_acls=True,
                ignore_public_acls=True,
                block_public_policy=True,
                restrict_public_buckets=True,
            )
        )

    async def put_public_access_block(
        self, context: Context, request: PutPublicAccessBlockRequest
    ) -> None:
        await context.bucket.refresh()
        switches = request.public_access_block_configuration
        if not (
            switches.block_public_acls
            and switches.ignore_public_acls
            and switches.block_public_policy
            and switches.restrict_public_buckets
        ):
            raise errors.NotImplemented("Lifting a public access block.")

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


def full_control(canonical_id: str, display_name: str) -> Grant:
    """The one grant of an owner-only ACL."""
    return Grant(
        grantee=Grantee(id=canonical_id, display_name=display_name, type="CanonicalUser"),
        permission="FULL_CONTROL",
    )
