"""S3 errors: objects, versions and multipart uploads."""

from gateway.s3.errors.base import S3Error


class AnnotationLimitExceeded(S3Error):
    status = 400
    message = "The request would exceed the maximum number of annotations allowed per object."


class AnnotationNameTooLong(S3Error):
    status = 400
    message = "The annotation name exceeds 512 bytes."


class ConditionalRequestConflict(S3Error):
    status = 409
    message = (
        "The conditional request cannot succeed due to a conflicting operation against this "
        "resource."
    )


class EncryptionTypeMismatch(S3Error):
    status = 400
    message = "The existing object was created with a different encryption type."


class GlacierExpeditedRetrievalNotAvailable(S3Error):
    status = 503
    message = "Expedited retrievals are currently not available. Try again later."


class InvalidAnnotationName(S3Error):
    status = 400
    message = "The annotation name you provided is invalid."


class InvalidEncryptionAlgorithmError(S3Error):
    status = 400
    message = "The encryption request you specified is not valid. The valid value is AES256."


class InvalidObjectState(S3Error):
    status = 403
    message = "The operation is not valid for the object's storage class"


class InvalidPart(S3Error):
    status = 400
    message = (
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag."
    )


class InvalidPartNumber(S3Error):
    status = 416
    message = "The requested partnumber is not satisfiable"


class InvalidPartOrder(S3Error):
    status = 400
    message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class InvalidPrefix(S3Error):
    status = 400
    message = "The annotation prefix you provided is invalid."


class InvalidStorageClass(S3Error):
    status = 400
    message = "The storage class you specified is not valid"


class InvalidTag(S3Error):
    status = 400
    message = (
        "The tag provided was not a valid tag. This error can occur if the tag did not pass "
        "input validation."
    )


class InvalidWriteOffset(S3Error):
    status = 400
    message = "The write offset value that you specified does not match the current object size."


class KmsDisabledException(S3Error):
    code = "KMS.DisabledException"
    status = 400
    message = "The request was rejected because the specified KMS key is not enabled."


class KmsInvalidKeyUsageException(S3Error):
    code = "KMS.InvalidKeyUsageException"
    status = 400
    message = "The key usage of the specified KMS key does not allow this operation."


class KmsInvalidStateException(S3Error):
    code = "KMS.KMSInvalidStateException"
    status = 400
    message = "The state of the specified KMS key is not valid for this request."


class KmsNotFoundException(S3Error):
    code = "KMS.NotFoundException"
    status = 400
    message = "The request was rejected because the specified KMS key could not be found."


class NoSuchAnnotation(S3Error):
    status = 404
    message = "The specified annotation does not exist on this object."


class NoSuchKey(S3Error):
    status = 404
    message = "The specified key does not exist."


class NoSuchObjectLockConfiguration(S3Error):
    status = 404
    message = "The specified object does not have a ObjectLock configuration"


class NoSuchUpload(S3Error):
    status = 404
    message = (
        "The specified multipart upload does not exist. The upload ID may be invalid, or the "
        "upload may have been aborted or completed."
    )


class NoSuchVersion(S3Error):
    status = 404
    message = "The specified version does not exist."


class ObjectAlreadyInActiveTierError(S3Error):
    status = 403
    message = "This action is not allowed against this storage tier."


class ObjectNotInActiveTierError(S3Error):
    status = 403
    message = "The source object of the COPY action is not in the active tier."


class RestoreAlreadyInProgress(S3Error):
    status = 409
    message = "Object restore is already in progress"


class TooManyParts(S3Error):
    status = 400
    message = (
        "You have attempted to add more parts than the maximum of 10000 that are allowed for "
        "this object."
    )
