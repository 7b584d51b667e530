"""The only way of yt-dlp into the network: http and https, wherever a redirect leads."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from yt_dlp.networking._urllib import UrllibRH

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
