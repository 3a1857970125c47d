"""What the clients of object stores raise, by what it says: no client is imported, and each has errors of its
own (s3fs hands on botocore's, gcsfs aiohttp's and Google's, ossfs those of oss2).
"""

import errno
from collections.abc import Iterator

_BUSY = (408, 429, 500, 502, 503, 504)  # HTTP
# an OSError without a number is what clients make of an answer that they do not know
_PASSING = (errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT)
_TRANSIENT = (None, *_PASSING, errno.EREMOTEIO)
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_FORBIDDEN = "Forbidden"  # gcsfs' word, in an OSError without a number

# classes, or bases of them, by package: the store or the way to it is gone for now
_OUT_OF_REACH = {
    "botocore": {
        "ConnectionError",  # EndpointConnectionError, ConnectTimeoutError, SSLError ...
        "HTTPClientError",  # ConnectionClosedError, ReadTimeoutError ...
        "IncompleteReadError",
        "ResponseParserError",
        "CredentialRetrievalError",
        "MetadataRetrievalError",
    },
    "aiohttp": {"ClientConnectionError", "ClientPayloadError"},
    "google": {"TransportError", "RetryError", "ServerError", "TooManyRequests"},
    "gcsfs": {"ChecksumError"},
    "requests": {"ConnectionError", "Timeout", "ChunkedEncodingError"},
    "urllib3": {"HTTPError"},
    "oss2": {"RequestError", "InconsistentError"},
    "fsspec": {"FSTimeoutError"},
}
_CLIENTS = {*_OUT_OF_REACH, "aiobotocore", "s3fs", "ossfs", "adlfs", "azure"}
_HINTS = {
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the nodes a role",
    "PartialCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both",
    "EndpointConnectionError": "is the bucket's region, or AWS_ENDPOINT_URL, right?",
    "DefaultCredentialsError": "set GOOGLE_APPLICATION_CREDENTIALS, or give the nodes a service account",
    "RequestError": "is OSS_ENDPOINT right?",
}


class StoreError(OSError):
    """An object store is out of reach or refuses: what its client raised, as one line."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    for inner in _chain(error):
        if (status := _status(inner)) is not None:
            return status in _BUSY
        if isinstance(inner, ConnectionError | TimeoutError) or _is_out_of_reach(inner):
            return True
    if not isinstance(error, OSError) or isinstance(error, _FINAL) or str(error).startswith(_FORBIDDEN):
        return False
    return error.errno in _TRANSIENT


def as_store_error(error: Exception) -> Exception:
    """An error that any reader of ours understands: Python's own as it is, but for a refusal; a client's as a
    StoreError; a bug as it is."""
    package = type(error).__module__.partition(".")[0]
    is_refusal = isinstance(error, PermissionError) or str(error).startswith(_FORBIDDEN)
    if is_refusal:
        return StoreError(errno.EACCES, f"access denied: {describe(error)}")
    return StoreError(describe(error)) if package in _CLIENTS else error


def describe(error: Exception) -> str:
    """One line: the store's code for it, what the client says, and what may help."""
    said = " ".join(str(error).split())
    codes = [text for inner in _chain(error) if (text := _answer(inner))]
    hints = [_HINTS[type(inner).__name__] for inner in _chain(error) if type(inner).__name__ in _HINTS]
    if said in ("", "None"):
        said = ""
    found = [*codes[:1], said or ("" if codes else type(error).__name__), *hints[:1]]
    return ": ".join(dict.fromkeys(text for text in found if text))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error tells of."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for name in ("status", "code"):  # as the errors of aiohttp, gcsfs and oss2 have it
        if str(getattr(error, name, "")).isdigit():
            return int(getattr(error, name))
    return None


def _answer(error: BaseException) -> str:
    """The store's own word for an error, with its HTTP status."""
    response, status = getattr(error, "response", None), _status(error)
    if status is None:
        return ""
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", "")
    return f"HTTP {status}" if str(code) in ("", "None", str(status)) else f"{code} (HTTP {status})"


def _is_out_of_reach(error: BaseException) -> bool:
    kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__)
    return any(name in _OUT_OF_REACH.get(package, ()) for package, name in kinds)
