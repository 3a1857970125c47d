"""Files over https, by the standard library: for what is fetched once a machine, such as a model's archive.

Proxies and certificates are those of the environment (https_proxy, no_proxy, SSL_CERT_FILE). A redirect may
lead to https only. A server that does not answer is given up after OPEN_S.
"""

import http.client
import multiprocessing
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import IO, Any, TypeVar

from painter_core.files.storage import redact

OPEN_S = 6.0  # for name, connection, certificate and the first line of the answer
READ_S = 60.0  # without a byte
PIECE_BYTES = 2**20
LOOPBACK = re.compile(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?/")

Found = TypeVar("Found")


class Unreachable(OSError):
    """A URL could not be read; the message says why, without the URL."""


def read_url(url: str, most_bytes: int) -> bytes:
    """The content of a small file.

    Raises:
        Unreachable: it cannot be read, or is larger.
    """
    content = bytearray()
    with open_url(url) as answer:
        for piece in _pieces(answer):
            content += piece
            if len(content) > most_bytes:
                raise Unreachable(f"answers with more than {most_bytes:,} bytes")
    return bytes(content)


def download(url: str, file: Path, *, look: Callable[[int, int | None], None], plain: bool = False) -> str:
    """Writes what a URL holds to a file, whole, and returns its version.

    Args:
        look: is called with the bytes so far and of all, if the server says how many; may raise.
        plain: http is taken too, since the file's sha256 is known.

    Raises:
        Unreachable: it cannot be read, or ended early.
    """
    with open_url(url, plain=plain) as answer, open(file, "wb") as out:
        done, size = 0, _stated_bytes(answer)
        look(done, size)
        for piece in _pieces(answer):
            out.write(piece)
            done += len(piece)
            look(done, size)
    return _version(answer)


def version(url: str, *, plain: bool = False) -> str:
    """What changes if the file behind a URL does: its ETag or date, and its size."""
    with open_url(url, method="HEAD", plain=plain) as answer:
        return _version(answer)


def _version(answer: Any) -> str:
    names = ("ETag", "Last-Modified", "Content-Length")
    return " ".join(value for name in names if (value := answer.headers.get(name)))


def open_url(url: str, *, method: str = "GET", plain: bool = False) -> Any:
    """The answer of a server, whose body is still to be read."""
    opener = urllib.request.build_opener(
        _Redirects(plain=plain), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "painter"})
    try:
        return within(OPEN_S, lambda: opener.open(request, timeout=READ_S))
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_reason(url, error)) from None


def within(seconds: float, call: Callable[[], Found]) -> Found:
    """The result of a call, or TimeoutError: looking up a name, for one, takes no timeout of its own."""
    pool = ThreadPool(1)  # its threads are daemons: the process does not wait for a call that was given up
    answer = pool.apply_async(call)
    pool.close()
    try:
        return answer.get(seconds)
    except multiprocessing.TimeoutError:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not self._plain and not newurl.startswith("https://") and not LOOPBACK.match(newurl):
            raise urllib.error.URLError(
                f"redirects to {redact(newurl)}, which is not https: anybody on the way could change the file"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _pieces(answer: Any) -> Iterator[bytes]:
    """The body of an answer; Unreachable if it ends before its end."""
    done, size = 0, _stated_bytes(answer)
    try:
        while piece := answer.read(PIECE_BYTES):
            done += len(piece)
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the connection broke off ({type(error).__name__}: {error})") from None
    if size not in (None, done):
        raise Unreachable(f"the connection ended after {done:,} of {size:,} bytes")


def _stated_bytes(answer: Any) -> int | None:
    stated = answer.headers.get("Content-Length") or ""
    return int(stated) if stated.isdecimal() else None


def _reason(url: str, error: Exception) -> str:
    """Why a URL could not be opened, and what helps with certificates and proxies."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    what = f"{type(inner).__name__}: {inner}" if isinstance(inner, Exception) else str(inner)
    if isinstance(error, urllib.error.HTTPError):
        what = f"the server answers {error.code} {error.reason}"
    if isinstance(inner, ssl.SSLCertVerificationError):
        what += "; where a proxy puts a certificate of its own, name that in SSL_CERT_FILE"
    proxy = urllib.request.getproxies().get(url.partition(":")[0])
    host = urllib.parse.urlsplit(url).hostname or ""
    if proxy and not urllib.request.proxy_bypass(host):
        what += f" (through the proxy {redact(proxy)}, which the environment names)"
    return what
