"""S3 errors: buckets and their configurations."""

from gateway.s3.errors.base import S3Error


class BucketAlreadyExists(S3Error):
    status = 409
    message = (
        "The requested bucket name is not available. The bucket namespace is shared by all "
        "users of the system. Please select a different name and try again."
    )


class BucketAlreadyOwnedByYou(S3Error):
    status = 409
    message = "Your previous request to create the named bucket succeeded and you already own it."


class BucketHasAccessPointsAttached(S3Error):
    status = 400
    message = "The bucket has access points attached, delete them first."


class BucketNotEmpty(S3Error):
    status = 409
    message = "The bucket you tried to delete is not empty"


class ClientTokenConflict(S3Error):
    status = 409
    message = (
        "Your Multi-Region Access Point idempotency token was already used for a different request."
    )


class IllegalLocationConstraintException(S3Error):
    status = 400
    message = (
        "The location constraint is incompatible for the region specific endpoint this request "
        "was sent to."
    )


class IllegalVersioningConfigurationException(S3Error):
    status = 400
    message = "The versioning configuration specified in the request is invalid."


class InvalidBucketName(S3Error):
    status = 400
    message = "The specified bucket is not valid."


class InvalidBucketState(S3Error):
    status = 409
    message = "The request is not valid with the current state of the bucket."


class InvalidLocationConstraint(S3Error):
    status = 400
    message = "The specified location-constraint is not valid"


class InvalidTargetBucketForLogging(S3Error):
    status = 400
    message = (
        "The target bucket for logging does not exist, is not owned by you, or does not have "
        "the appropriate grants for the log-delivery group."
    )


class MultiRegionAccessPointAlreadyOwnedByYou(S3Error):
    status = 409
    message = "You already have a Multi-Region Access Point with the same name."


class NoLoggingStatusForKey(S3Error):
    status = 400
    message = "There is no such thing as a logging status subresource for a key."


class NoSuchAsyncRequest(S3Error):
    status = 404
    message = "The specified request was not found."


class NoSuchBucket(S3Error):
    status = 404
    message = "The specified bucket does not exist"


class NoSuchConfiguration(S3Error):
    status = 404
    message = "The specified configuration does not exist."


class NoSuchCORSConfiguration(S3Error):
    status = 404
    message = "The CORS configuration does not exist"


class NoSuchLifecycleConfiguration(S3Error):
    status = 404
    message = "The lifecycle configuration does not exist"


class NoSuchMultiRegionAccessPoint(S3Error):
    status = 404
    message = "The specified Multi-Region Access Point does not exist."


class NoSuchTagSet(S3Error):
    status = 404
    message = "The TagSet does not exist"


class NoSuchWebsiteConfiguration(S3Error):
    status = 404
    message = "The specified bucket does not have a website configuration"


class ObjectLockConfigurationNotFoundError(S3Error):
    status = 404
    message = "Object Lock configuration does not exist for this bucket"


class OperationAborted(S3Error):
    status = 409
    message = (
        "A conflicting conditional operation is currently in progress against this resource. "
        "Please try again."
    )


class ReplicationConfigurationNotFoundError(S3Error):
    status = 404
    message = "The replication configuration was not found"


class RequestTorrentOfBucketError(S3Error):
    status = 400
    message = "Requesting the torrent file of a bucket is not permitted."


class ServerSideEncryptionConfigurationNotFoundError(S3Error):
    status = 404
    message = "The server side encryption configuration was not found"


class TooManyBuckets(S3Error):
    status = 400
    message = "You have attempted to create more buckets than allowed"


class TooManyConfigurations(S3Error):
    status = 400
    message = (
        "You are attempting to create a new configuration but have already reached the maximum "
        "number."
    )


class TooManyMultiRegionAccessPoints(S3Error):
    status = 400
    message = "You have exceeded the quota for how many Multi-Region Access Points you can create."
