"""Access control lists where the bucket owner owns all: they can be read, and say one thing.

Every bucket is BucketOwnerEnforced: its ACLs are disabled. Writing the ACL that holds anyway, the
owner's full control, changes nothing and is taken; every other is AccessControlListNotSupported.
"""

from gateway.handlers.bucket import refuse_acl
from gateway.handlers.context import Context, owner_of
from gateway.handlers.object_read import VersionCalls, find_version
from gateway.s3 import errors
from gateway.s3.model.access import (
    AccessControlPolicy,
    GetBucketAclOutput,
    GetBucketAclRequest,
    GetObjectAclOutput,
    GetObjectAclRequest,
    Grant,
    Grantee,
    PutBucketAclRequest,
    PutObjectAclOutput,
    PutObjectAclRequest,
)

FULL_CONTROL = "FULL_CONTROL"


class AclHandlers:
    """The acl sub-resource of buckets and versions."""

    def __init__(self, meta: VersionCalls) -> None:
        self._meta = meta

    async def get_bucket_acl(
        self, context: Context, request: GetBucketAclRequest
    ) -> GetBucketAclOutput:
        owner_id = (await context.bucket.refresh()).owner_id
        name = context.caller.display_name
        return GetBucketAclOutput(
            owner=owner_of(owner_id, name), grants=[_full_control(owner_id, name)]
        )

    async def put_bucket_acl(self, context: Context, request: PutBucketAclRequest) -> None:
        owner_id = (await context.bucket.refresh()).owner_id
        _check(request, owner_id)

    async def get_object_acl(
        self, context: Context, request: GetObjectAclRequest
    ) -> GetObjectAclOutput:
        await find_version(self._meta, context, request, without_data=True)
        owner_id = context.bucket.record.owner_id
        name = context.caller.display_name
        return GetObjectAclOutput(
            owner=owner_of(owner_id, name), grants=[_full_control(owner_id, name)]
        )

    async def put_object_acl(
        self, context: Context, request: PutObjectAclRequest
    ) -> PutObjectAclOutput:
        await find_version(self._meta, context, request, without_data=True)
        _check(request, context.bucket.record.owner_id)
        return PutObjectAclOutput()


def _check(request: PutBucketAclRequest | PutObjectAclRequest, owner_id: str) -> None:
    policy = request.access_control_policy
    if request.acl is not None and policy is not None:
        raise errors.UnexpectedContent()
    if policy is not None:
        if not _is_full_control(policy, owner_id):
            raise errors.AccessControlListNotSupported()
    elif request.acl is None:
        raise errors.MissingSecurityHeader(MissingHeaderName="x-amz-acl")
    else:
        refuse_acl(request.acl)


def _is_full_control(policy: AccessControlPolicy, owner_id: str) -> bool:
    """Whether a policy says what holds anyway: the owner may do everything, nobody else."""
    if policy.owner is not None and policy.owner.id not in (None, owner_id):
        return False
    grants = policy.grants or []
    return len(grants) == 1 and all(
        grant.permission == FULL_CONTROL
        and grant.grantee is not None
        and grant.grantee.type == "CanonicalUser"
        and grant.grantee.id == owner_id
        for grant in grants
    )


def _full_control(canonical_id: str, display_name: str) -> Grant:
    """The one grant of an owner-only ACL."""
    return Grant(
        grantee=Grantee(id=canonical_id, display_name=display_name, type="CanonicalUser"),
        permission=FULL_CONTROL,
    )
