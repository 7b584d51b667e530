"""Addresses as feeds and pages write them, read as a browser reads them; and public ones. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin, urlsplit

_CONTROLS_AND_SPACE = "".join(map(chr, range(0x21)))
_LINE_BREAKS = re.compile(r"[\t\r\n]")  # a browser removes them, wherever they are
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NAT64 = IPv6Network("64:ff9b::/96")
_TO_ESCAPE = re.compile("[\\s\u200c\u200d]")  # joiners are letters in some scripts


def absolute_url(text: str, base: str) -> str:
    """Return the URL that an address on the page `base` stands for; empty for an empty address.

    Relative addresses are resolved. Blanks around it and line breaks are dropped, blanks inside are
    percent-encoded, `&amp;` that was escaped twice is unescaped, and what is percent-encoded stays
    so. Anything else that is wrong with it stays too, for `checked_url` to refuse.
    """
    clean = _LINE_BREAKS.sub("", text.strip(_CONTROLS_AND_SPACE).strip())
    while "&amp;" in clean:
        clean = clean.replace("&amp;", "&")
    if not clean:
        return ""
    try:
        url = _with_slashes(clean)
        parts = urlsplit(url if _SCHEME.match(url) else urljoin(base, url))
    except ValueError:
        return clean
    return parts._replace(
        path=_escaped(parts.path), query=_escaped(parts.query), fragment=_escaped(parts.fragment)
    ).geturl()


def is_public(address: str) -> bool:
    """Return whether an IP address is on the internet: not of this host or a local network.

    An IPv6 address that stands for an IPv4 one is as public as that.
    """
    ip = ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def without_query(url: str) -> str:
    """Return a URL without its query, which may hold a signature that changes every time."""
    return re.split("[?#]", url, maxsplit=1)[0]


def _with_slashes(url: str) -> str:
    """Turn the backslashes before the query into slashes."""
    path = re.split("[?#]", url, maxsplit=1)[0]
    return path.replace("\\", "/") + url[len(path) :]


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda found: quote(found[0]), text)
