"""S3 errors: who may do what: signatures, credentials, policies, ACLs, access points."""

from gateway.s3.errors.base import S3Error


class AccessControlListNotSupported(S3Error):
    status = 400
    message = "The bucket does not allow ACLs"


class AccessDenied(S3Error):
    status = 403
    message = "Access Denied"


class AccessPointAlreadyOwnedByYou(S3Error):
    status = 409
    message = "An access point with an identical name already exists in your account."


class AccountProblem(S3Error):
    status = 403
    message = (
        "There is a problem with your account that prevents the operation from completing "
        "successfully."
    )


class AllAccessDisabled(S3Error):
    status = 403
    message = "All access to this resource has been disabled."


class AmbiguousGrantByEmailAddress(S3Error):
    status = 400
    message = "The email address that you provided is associated with more than one account."


class AuthorizationHeaderMalformed(S3Error):
    status = 400
    message = "The authorization header that you provided is not valid."


class AuthorizationQueryParametersError(S3Error):
    status = 400
    message = "The authorization query parameters that you provided are not valid."


class CredentialsNotSupported(S3Error):
    status = 400
    message = "This request does not support credentials."


class CrossLocationLoggingProhibited(S3Error):
    status = 403
    message = (
        "Buckets in one geographic location cannot log information to a bucket in another location."
    )


class ExpiredToken(S3Error):
    status = 400
    message = "The provided token has expired."


class InvalidAccessKeyId(S3Error):
    status = 403
    message = "The access key ID you provided does not exist in our records."


class InvalidAccessPoint(S3Error):
    status = 400
    message = "The specified access point name or account is not valid."


class InvalidAccessPointAliasError(S3Error):
    status = 400
    message = "The specified access point alias name is not valid."


class InvalidAddressingHeader(S3Error):
    status = 400
    message = "You must specify the Anonymous role."


class InvalidBucketAclWithBlockPublicAccessError(S3Error):
    status = 400
    message = "Bucket cannot have public ACLs set with BlockPublicAccess enabled"


class InvalidBucketAclWithObjectOwnership(S3Error):
    status = 400
    message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"


class InvalidBucketOwnerAWSAccountID(S3Error):
    status = 400
    message = "The value of the expected bucket owner parameter must be an account ID."


class InvalidPayer(S3Error):
    status = 403
    message = "All access to this object has been disabled."


class InvalidPolicyDocument(S3Error):
    status = 400
    message = (
        "The content of the form does not meet the conditions specified in the policy document."
    )


class InvalidRegion(S3Error):
    status = 403
    message = "The specified Region is not valid for this request."


class InvalidSecurity(S3Error):
    status = 403
    message = "The provided security credentials are not valid."


class InvalidSessionException(S3Error):
    status = 400
    message = "The session is not valid or no longer exists."


class InvalidSignature(S3Error):
    status = 400
    message = (
        "The request signature that the server calculated does not match the signature that you"
        " provided."
    )


class InvalidToken(S3Error):
    status = 400
    message = "The provided token is malformed or otherwise not valid."


class MalformedACLError(S3Error):
    status = 400
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class MalformedPolicy(S3Error):
    status = 400
    message = "Policies must be valid JSON and the first byte must be '{'"


class MissingAuthenticationToken(S3Error):
    status = 403
    message = "The request was not signed."


class MissingSecurityElement(S3Error):
    status = 400
    message = "The SOAP 1.1 request is missing a security element."


class MissingSecurityHeader(S3Error):
    status = 400
    message = "Your request was missing a required header"


class NoSuchAccessPoint(S3Error):
    status = 404
    message = "The specified access point does not exist."


class NoSuchAccessPointPolicy(S3Error):
    status = 404
    message = "The access point policy does not exist."


class NoSuchBucketPolicy(S3Error):
    status = 404
    message = "The bucket policy does not exist"


class NoSuchPublicAccessBlockConfiguration(S3Error):
    status = 404
    message = "The public access block configuration was not found"


class NotSignedUp(S3Error):
    status = 403
    message = "Your account is not signed up for this service."


class OwnershipControlsNotFoundError(S3Error):
    status = 404
    message = "The bucket ownership controls were not found"


class RequestExpired(S3Error):
    status = 400
    message = "Request has expired"


class RequestTimeTooSkewed(S3Error):
    status = 403
    message = "The difference between the request time and the current time is too large."


class SignatureDoesNotMatch(S3Error):
    status = 403
    message = (
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method."
    )


class TokenCodeInvalidError(S3Error):
    status = 400
    message = "The serial number and/or token code you provided is not valid."


class TokenRefreshRequired(S3Error):
    status = 400
    message = "The provided token must be refreshed."


class UnauthorizedAccess(S3Error):
    status = 401
    message = "The provided credentials are not authorized in this Region."


class UnauthorizedAccessError(S3Error):
    status = 403
    message = "The provided credentials are not authorized in this Region."


class UnexpectedIPError(S3Error):
    status = 403
    message = "This request was rejected because the IP was unexpected."


class UnresolvableGrantByEmailAddress(S3Error):
    status = 400
    message = "The email address that you provided does not match any account on record."


class UnsupportedSignature(S3Error):
    status = 400
    message = (
        "The provided request is signed with an unsupported token version or the signature "
        "version is not supported."
    )


class XAmzContentSHA256Mismatch(S3Error):
    status = 400
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."
