"""Build MediaWiki dumps by hand."""

from __future__ import annotations

from xml.sax.saxutils import escape

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de"><siteinfo><sitename>Made</sitename>'
    "<base>https://made.example/wiki/Main_Page</base><case>first-letter</case><namespaces>"
    '<namespace key="0" case="first-letter" /><namespace key="1" case="first-letter">Talk</namespace>'
    '<namespace key="6" case="first-letter">Datei</namespace><namespace key="14" case="first-letter">Kategorie</namespace>'
    "</namespaces></siteinfo>\n"
)
TAIL = "</mediawiki>\n"


def make_page(
    title: str, namespace: int, number: int, text: str, *, more: str = "", model: str = "wikitext", is_raw: bool = False
) -> str:
    """Return a page with one revision, whose id is that of the page plus 1,000; `more` is appended to it."""
    kind = "" if namespace < 0 else f"<ns>{namespace}</ns>"
    return (
        f"<page><title>{escape(title)}</title>{kind}<id>{number}</id><revision><id>{number + 1_000}</id>"
        f"<contributor><username>U</username><id>5</id></contributor><model>{model}</model>"
        f'<text xml:space="preserve">{text if is_raw else escape(text)}</text></revision>{more}</page>\n'
    )
