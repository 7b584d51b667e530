"""The only ways of yt-dlp into the network: http and https, wherever a redirect leads."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from yt_dlp.networking._helper import _socket_connect, create_connection
from yt_dlp.networking._urllib import HTTPHandler, UrllibRH

from .addresses import is_public
from .arguments import SCHEMES


class _SchemeGuard(urllib.request.BaseHandler):
    """Refuses redirects to URLs that are neither http nor https."""

    handler_order = 400  # before the handler that follows redirects

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        target = urllib.parse.urljoin(req.full_url, headers.get("location") or "")
        if urllib.parse.urlsplit(target).scheme not in SCHEMES:
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class HttpOnlyRH(UrllibRH):
    """yt-dlp's handler of requests that is used; the others are not."""

    _SUPPORTED_URL_SCHEMES = SCHEMES

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        opener = super()._create_instance(*args, **kwargs)
        opener.add_handler(_SchemeGuard())
        for scheme in set(opener.handle_open) - {*SCHEMES, "unknown"}:
            del opener.handle_open[scheme]
        return opener


class PrivateAddressError(OSError):
    """A host of a local network, where a job may download from public ones only."""


class PublicOnlyRH(HttpOnlyRH):
    """The handler for jobs that came over HTTP: it connects to public addresses only.

    The address is checked when it is connected to, so that no redirect and no change of the name
    leads elsewhere. No proxy is used: it would look up the name itself.
    """

    def _get_proxies(self, request: Any) -> dict[str, Any]:
        del request
        return {}

    def _create_instance(self, *args: Any, **kwargs: Any) -> Any:
        opener = super()._create_instance(*args, **kwargs)
        for handler in opener.handlers:
            if isinstance(handler, HTTPHandler):
                vars(handler)["_make_conn_class"] = lambda base, _: _public(base)
        return opener


def _public(base: type[Any]) -> type[Any]:
    """Return a class of connections that checks its address."""

    def connect(self: Any) -> None:
        self._create_connection = _connect
        base.connect(self)

    return type(base.__name__, (base,), {"connect": connect})


def _connect(address: Any, timeout: Any, source_address: Any) -> Any:
    def connect(found: Any, *args: Any) -> Any:
        if not is_public(found[4][0]):
            raise PrivateAddressError(
                f"{address[0]} is at the private address {found[4][0]}, from which a job that was "
                "added over HTTP may not download"
            )
        return _socket_connect(found, *args)

    return create_connection(address, timeout, source_address, _create_socket_func=connect)
