"""S3 errors: SelectObjectContent."""

from gateway.s3.errors.base import S3Error


class EmptyRequestBody(S3Error):
    status = 400
    message = "Request body cannot be empty."


class EvaluatorInvalidArguments(S3Error):
    status = 400
    message = (
        "There is an incorrect number of arguments in the function call in the SQL expression."
    )


class ExpressionTooLong(S3Error):
    status = 400
    message = "The SQL expression is too long."


class ExternalEvalException(S3Error):
    status = 400
    message = "The query cannot be evaluated. Check the file and try again."


class IllegalSqlFunctionArgument(S3Error):
    status = 400
    message = "An illegal argument was used in the SQL function."


class InvalidColumnIndex(S3Error):
    status = 400
    message = "The column index in the SQL expression is not valid."


class InvalidCompressionFormat(S3Error):
    status = 400
    message = "The file is not in a supported compression format."


class InvalidDataSource(S3Error):
    status = 400
    message = "The data source type is not valid. Only CSV, JSON and Parquet are supported."


class InvalidDataType(S3Error):
    status = 400
    message = "The SQL expression contains a data type that is not valid."


class InvalidExpressionType(S3Error):
    status = 400
    message = "The expression type is not valid. Only SQL expressions are supported."


class InvalidFileHeaderInfo(S3Error):
    status = 400
    message = "The FileHeaderInfo value is not valid. Only NONE, USE and IGNORE are supported."


class InvalidJsonType(S3Error):
    status = 400
    message = "The JsonType value is not valid. Only DOCUMENT and LINES are supported."


class InvalidKeyPath(S3Error):
    status = 400
    message = "The key path in the SQL expression is not valid."


class InvalidQuoteFields(S3Error):
    status = 400
    message = "The QuoteFields value is not valid. Only ALWAYS and ASNEEDED are supported."


class InvalidRequestParameter(S3Error):
    status = 400
    message = "The value of a parameter in the SelectRequest element is not valid."


class InvalidScanRange(S3Error):
    status = 400
    message = "The provided scan range is not valid."


class InvalidTableAlias(S3Error):
    status = 400
    message = "The SQL expression contains a table alias that is not valid."


class InvalidTextEncoding(S3Error):
    status = 400
    message = "The encoding type is not valid. Only UTF-8 is supported."


class LexerInvalidChar(S3Error):
    status = 400
    message = "The SQL expression contains a character that is not valid."


class MissingRequiredParameter(S3Error):
    status = 400
    message = "The SelectRequest entity is missing a required parameter."


class ObjectSerializationConflict(S3Error):
    status = 400
    message = "InputSerialization specifies more than one format, or OutputSerialization does."


class OverMaxColumn(S3Error):
    status = 400
    message = "The number of columns in the result is greater than the maximum allowable number."


class OverMaxParquetBlockSize(S3Error):
    status = 400
    message = "The Parquet file is above the maximum row group size."


class OverMaxRecordSize(S3Error):
    status = 400
    message = "The length of a record in the input or result is greater than the maximum allowed."


class UnsupportedFunction(S3Error):
    status = 400
    message = "A function that is not supported was used."


class UnsupportedParquetType(S3Error):
    status = 400
    message = "The specified Parquet type is not supported."


class UnsupportedRangeHeader(S3Error):
    status = 400
    message = "A Range header is not supported for this operation."


class UnsupportedSqlOperation(S3Error):
    status = 400
    message = "A SQL operation that is not supported was used."


class UnsupportedSqlStructure(S3Error):
    status = 400
    message = "A SQL structure that is not supported was used. Check the SELECT clause."


class UnsupportedSyntax(S3Error):
    status = 400
    message = "A syntax that is not supported was used."
