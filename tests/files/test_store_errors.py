"""Errors of real clients: which pass, and what they are called."""

import errno
import pickle
from collections.abc import Callable

import pytest

from painter_core.files.store_errors import StoreError, as_store_error, describe, is_transient
from tests.support.fake_store import answered, botocore_error, no_store


class HttpError(Exception):
    """As gcsfs raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code


def foreign(module: str, *names: str, base: type = Exception) -> Exception:
    """An error of a class with these names, the last one its own."""
    for name in names:
        base = type(name, (base,), {"__module__": module})
    return base("said")


def oss(status: int, name: str) -> Exception:
    """As ossfs hands on an error of oss2."""
    cause = foreign("oss2.exceptions", "OssError", name)
    cause.status, cause.code = status, name  # type: ignore[attr-defined]
    made = OSError(errno.EIO, "said")
    made.__cause__ = cause
    return made


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda: OSError("SlowDown"), True),
        (lambda: OSError(errno.EBUSY, "busy"), True),
        (lambda: OSError(errno.EREMOTEIO, "internal error"), True),
        (ConnectionResetError, True),
        (TimeoutError, True),
        (no_store, True),
        (lambda: botocore_error("ConnectionClosedError", "HTTPClientError", "closed"), True),
        (lambda: botocore_error("CredentialRetrievalError", "CredentialRetrievalError", "no IMDS"), True),
        (lambda: answered(500, "InternalError", OSError(errno.EREMOTEIO, "x")), True),
        (lambda: answered(503, "SlowDown", OSError(errno.EBUSY, "x")), True),
        (lambda: answered(429, "TooManyRequests", OSError(errno.EIO, "x")), True),
        (lambda: HttpError(503), True),
        (lambda: foreign("aiohttp.x", "ClientConnectionError", "ServerDisconnectedError"), True),
        (lambda: foreign("google.auth.exceptions", "TransportError"), True),
        (lambda: foreign("gcsfs.retry", "ChecksumError"), True),
        (lambda: oss(503, "ServerError"), True),
        (lambda: oss(-2, "RequestError"), True),
        (lambda: HttpError(403), False),
        (lambda: OSError("Forbidden: bucket/x\nno access"), False),
        (lambda: oss(403, "InvalidAccessKeyId"), False),
        (lambda: answered(403, "SignatureDoesNotMatch", PermissionError("None")), False),
        (lambda: answered(404, "NoSuchKey", FileNotFoundError("x")), False),
        (lambda: answered(400, "InvalidRequest", OSError(errno.EINVAL, "x")), False),
        (lambda: botocore_error("NoCredentialsError", "BotoCoreError", "no credentials"), False),
        (lambda: foreign("google.auth.exceptions", "DefaultCredentialsError"), False),
        (lambda: FileNotFoundError("x"), False),
        (lambda: OSError(errno.ENOSPC, "full"), False),
        (lambda: ValueError("a bug"), False),
    ],
)  # fmt: skip
def test_what_is_tried_again(make: Callable[[], Exception], again: bool) -> None:
    assert is_transient(make()) is again


def test_errors_of_clients_become_ours() -> None:
    found = as_store_error(no_store())
    assert isinstance(found, StoreError)
    assert str(found) == f"{no_store()}: is the bucket's region, or AWS_ENDPOINT_URL, right?"
    assert str(pickle.loads(pickle.dumps(found))) == str(found), "a worker hands it to the driver"
    refused = as_store_error(answered(403, "SignatureDoesNotMatch", PermissionError("None")))
    assert isinstance(refused, StoreError)
    assert "access denied: SignatureDoesNotMatch (HTTP 403)" in str(refused)
    for kept in (FileNotFoundError("x"), OSError(errno.EBUSY, "x"), TypeError("a bug of ours")):
        assert as_store_error(kept) is kept


def test_an_error_is_one_line() -> None:
    assert describe(OSError("a\nb")) == "a b"
    assert describe(HttpError(403)) == "HTTP 403"
    assert describe(ConnectionResetError()) == "ConnectionResetError"
