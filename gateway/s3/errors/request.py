"""S3 errors: the form of a request, and the service itself."""

from gateway.s3.errors.base import S3Error


class BadDigest(S3Error):
    status = 400
    message = (
        "The Content-MD5 or checksum value that you specified did not match what the server "
        "received."
    )


class BadRequest(S3Error):
    status = 400
    message = "Bad Request"


class Busy(S3Error):
    status = 503
    message = "The service is unavailable. Try again later."


class ConnectionClosedByRequester(S3Error):
    status = 400
    message = "The connection was closed before the request was complete."


class EntityTooLarge(S3Error):
    status = 400
    message = "Your proposed upload exceeds the maximum allowed object size."


class EntityTooSmall(S3Error):
    status = 400
    message = "Your proposed upload is smaller than the minimum allowed object size."


class IdempotencyParameterMismatch(S3Error):
    status = 400
    message = (
        "Parameters on this idempotent request are inconsistent with those of a previous request."
    )


class IncompleteBody(S3Error):
    status = 400
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header."


class IncorrectEndpoint(S3Error):
    status = 400
    message = (
        "The specified bucket exists in another Region. Direct requests to the correct endpoint."
    )


class IncorrectNumberOfFilesInPostRequest(S3Error):
    status = 400
    message = "POST requires exactly one file upload per request."


class InlineDataTooLarge(S3Error):
    status = 400
    message = "The inline data exceeds the maximum allowed size."


class InsufficientStorage(S3Error):
    status = 507
    message = "There is no space left for new data. Deleting still works."


class InternalError(S3Error):
    status = 500
    message = "We encountered an internal error. Please try again."


class InvalidArgument(S3Error):
    status = 400
    message = "Invalid Argument"


class InvalidChunkSizeError(S3Error):
    status = 403
    message = "Only the last chunk is allowed to have a size less than 8192 bytes."


class InvalidDigest(S3Error):
    status = 400
    message = "The Content-MD5 or checksum value that you specified is not valid."


class InvalidHostHeader(S3Error):
    status = 400
    message = "The host headers provided in the request used the incorrect style addressing."


class InvalidHttpMethod(S3Error):
    status = 400
    message = "The request was sent with an HTTP method that is not expected."


class InvalidRange(S3Error):
    status = 416
    message = "The requested range is not satisfiable"


class InvalidRequest(S3Error):
    status = 400
    message = "Invalid Request"


class InvalidSOAPRequest(S3Error):
    status = 400
    message = "The SOAP request body is invalid."


class InvalidURI(S3Error):
    status = 400
    message = "Couldn't parse the specified URI."


class KeyTooLongError(S3Error):
    status = 400
    message = "Your key is too long"


class MalformedPOSTRequest(S3Error):
    status = 400
    message = "The body of your POST request is not well-formed multipart/form-data."


class MalformedTrailerError(S3Error):
    status = 400
    message = (
        "The request contained trailing data that was not well-formed or did not conform to our"
        " published schema."
    )


class MalformedXML(S3Error):
    status = 400
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class MaxMessageLengthExceeded(S3Error):
    status = 400
    message = "Your request was too big."


class MaxPostPreDataLengthExceededError(S3Error):
    status = 400
    message = "Your POST request fields preceding the upload file were too large."


class MetadataTooLarge(S3Error):
    status = 400
    message = "Your metadata headers exceed the maximum allowed metadata size"


class MethodNotAllowed(S3Error):
    status = 405
    message = "The specified method is not allowed against this resource."


class MissingAttachment(S3Error):
    status = 400
    message = "A SOAP attachment was expected, but none was found."


class MissingContentLength(S3Error):
    status = 411
    message = "You must provide the Content-Length HTTP header."


class MissingRequestBodyError(S3Error):
    status = 400
    message = "Request Body is empty"


class NotImplemented(S3Error):
    status = 501
    message = "A header you provided implies functionality that is not implemented"


class NotModified(S3Error):
    status = 304
    message = "Not Modified"


class PermanentRedirect(S3Error):
    status = 301
    message = (
        "The bucket you are attempting to access must be addressed using the specified "
        "endpoint. Please send all future requests to this endpoint."
    )


class PermanentRedirectControlError(S3Error):
    status = 301
    message = (
        "The API operation you are attempting to access must be addressed using the specified "
        "endpoint."
    )


class PreconditionFailed(S3Error):
    status = 412
    message = "At least one of the pre-conditions you specified did not hold"


class Redirect(S3Error):
    status = 307
    message = "Temporary redirect. Please re-send the request to the specified endpoint."


class RequestHeaderSectionTooLarge(S3Error):
    status = 400
    message = "Your request header section exceeds the maximum allowed request header section size."


class RequestIsNotMultiPartContent(S3Error):
    status = 400
    message = "Bucket POST must be of the enclosure-type multipart/form-data."


class RequestTimeout(S3Error):
    status = 400
    message = (
        "Your socket connection to the server was not read from or written to within the "
        "timeout period."
    )


class ServiceUnavailable(S3Error):
    status = 503
    message = "Service is unable to handle request. Please try again."


class SlowDown(S3Error):
    status = 503
    message = "Please reduce your request rate."


class TemporaryRedirect(S3Error):
    status = 307
    message = "You are being redirected to the bucket while the DNS server is being updated."


class UnexpectedContent(S3Error):
    status = 400
    message = "This request contains unsupported content."


class UnsupportedArgument(S3Error):
    status = 400
    message = "The request contained an unsupported argument."


class UnsupportedMediaType(S3Error):
    status = 415
    message = "The content type or encoding of the body is not supported."


class UserKeyMustBeSpecified(S3Error):
    status = 400
    message = (
        "The bucket POST must contain the specified field name. If it is specified, check the "
        "order of the fields."
    )
