"""Count the internal and external anchors of one web page (an example job for jaas).

The page's address comes in the environment variable ``url``; ``timeout`` may name the seconds to wait
for the server (default 20). The answer is one line of JSON on stdout::

    $ jaas run --image href-counter --network demo --env url=http://pages/library/json.html
    {"url": "http://pages/library/json.html", "title": "json - JSON encoder ...", "internal": 211, "external": 9}

What is counted: every ``<a>`` with an ``href``, resolved against the page's address (after redirects) or
its ``<base href>``. *Internal* is an http(s) address on the same host name as the page; so a mere
``#fragment`` is internal, for it leads to the page itself. *External* is an http(s) address on another
host. Anything else (``mailto:``, ``javascript:``, ``tel:``, an address that cannot be parsed) is not
counted. An anchor that occurs twice counts twice.

Exit codes:

====  ==================================================================
0     the page was counted
2     no ``url`` was given, or it is not an http(s) address
4     the server answered with an HTTP error, such as 404
5     the server cannot be reached, or did not answer in time
====  ==================================================================

On any code but 0 stdout stays empty and stderr holds one line that says why.
"""

import http.client
import json
import os
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

OK, BAD_URL, HTTP_ERROR, UNREACHABLE = 0, 2, 4, 5
DEFAULT_TIMEOUT = 20.0
MAX_BYTES = 20 * 1024 * 1024  # of one page; the rest of a longer one is not looked at


class NoAnswer(Exception):
    """The page cannot be counted; says why, and with which code to exit."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Counts:
    """What one page has."""

    title: str
    internal: int
    external: int


class AnchorParser(HTMLParser):
    """Collects the page's title, its base address and the targets of its anchors."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base: str | None = None
        self.hrefs: list[str] = []
        self.title_parts: list[str] = []
        self._in_title = False
        self._title_seen = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an anchor's target, the base address, and where the title begins."""
        href = dict(attrs).get("href")
        if tag == "a" and href is not None:
            self.hrefs.append(href)
        elif tag == "base" and href is not None and self.base is None:
            self.base = href
        elif tag == "title" and not self._title_seen:
            self._in_title = self._title_seen = True

    def handle_endtag(self, tag: str) -> None:
        """Note where the title ends."""
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        """Collect the title's text."""
        if self._in_title:
            self.title_parts.append(data)


def count(html: str, page_url: str) -> Counts:
    """Count the anchors of a page that was fetched from ``page_url``."""
    parser = AnchorParser()
    parser.feed(html)
    parser.close()
    base = urljoin(page_url, parser.base or "")
    here = urlsplit(page_url).hostname
    internal = external = 0
    for href in parser.hrefs:
        try:
            target = urlsplit(urljoin(base, href.strip()))
            host = target.hostname
        except ValueError:  # such as "http://[": browsers lead nowhere from there, either
            continue
        if target.scheme not in ("http", "https") or not host:
            continue
        if host == here:
            internal += 1
        else:
            external += 1
    return Counts(" ".join("".join(parser.title_parts).split()), internal, external)


def fetch(url: str, timeout: float) -> tuple[str, str]:
    """Fetch a page; return its address after redirects and its text."""
    request = Request(url, headers={"User-Agent": "href-counter (jaas example)"})
    with urlopen(request, timeout=timeout) as response:
        body: bytes = response.read(MAX_BYTES)
        charset = response.headers.get_content_charset() or "utf-8"
        try:
            text = body.decode(charset, errors="replace")
        except LookupError:  # a charset that Python does not know
            text = body.decode("utf-8", errors="replace")
        return response.url, text


def settings(environ: dict[str, str]) -> tuple[str, float]:
    """Return the page's address and the time-out in seconds, or raise why they are no good."""
    url = environ.get("url", "").strip()
    if not url:
        raise NoAnswer(BAD_URL, "set the environment variable url to the page's address")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number
        good = False
    if not good or " " in url or not url.isprintable():
        raise NoAnswer(BAD_URL, f"not an http(s) address: {url!r}")
    try:
        return url, float(environ.get("timeout", DEFAULT_TIMEOUT))
    except ValueError as error:
        raise NoAnswer(BAD_URL, f"timeout is not a number of seconds: {environ['timeout']!r}") from error


def answer(url: str, timeout: float) -> str:
    """Fetch and count a page; return the line of JSON, or raise why there is none."""
    try:
        final_url, html = fetch(url, timeout)
    except HTTPError as error:  # first, for it is an OSError, too
        raise NoAnswer(HTTP_ERROR, f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswer(UNREACHABLE, f"{url}: {str(reason) or repr(reason)}") from error
    except UnicodeError as error:  # a host name or a path that cannot be sent
        raise NoAnswer(BAD_URL, f"not an http(s) address: {url!r} ({error})") from error
    counts = count(html, final_url)
    fields = {"url": final_url, "title": counts.title, "internal": counts.internal, "external": counts.external}
    return json.dumps(fields, ensure_ascii=False)


def main(environ: dict[str, str]) -> int:
    """Count the page that the environment names; return the exit code."""
    try:
        print(answer(*settings(environ)))
    except NoAnswer as error:
        print(f"href-counter: {error}", file=sys.stderr)
        return error.exit_code
    return OK


if __name__ == "__main__":
    # Whatever the container's locale is: JSON is UTF-8.
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # a real file
    sys.exit(main(dict(os.environ)))
