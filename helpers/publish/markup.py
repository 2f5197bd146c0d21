"""Markdown of notebooks as HTML, and HTML made safe: what is left is text, links, images, formulas and formatting.
Nothing of it may run, or load from elsewhere.
"""

import re
from typing import Protocol

from bleach.css_sanitizer import CSSSanitizer
from bleach.html5lib_shim import Filter
from bleach.sanitizer import Cleaner
from bs4 import BeautifulSoup, Tag
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from mdit_py_plugins.dollarmath import dollarmath_plugin

TAGS = frozenset(
    "a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt em figcaption figure h1 "
    "h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp section small span strike strong sub summary sup table "
    "tbody td tfoot th thead tr tt u ul var wbr".split()
)
SILENT = frozenset(("script", "style", "template"))  # shown by nobody, content included
ATTRIBUTES = list(
    "align class colspan dir height id lang open reversed rowspan scope span start style title type valign "
    "width".split()
)
STYLES = (
    "background-color color font-family font-size font-style font-weight margin max-width min-width padding text-align "
    "text-decoration vertical-align white-space width".split()
)
SCHEMES = ("attachment", "data", "file", "ftp", "http", "https", "mailto")  # of which `Places` refuses some by name
FORMULA = re.compile(r"\$([^$\n]+)\$")
HEADINGS = re.compile("h[1-6]")


class Places(Protocol):
    """What site and paper do differently: where things are, and how a formula is written."""

    def target(self, address: str) -> str: ...
    def image(self, address: str) -> str | None: ...  # None: it is elsewhere
    def anchor(self, name: str) -> str: ...
    def cited(self, address: str, words: str) -> str: ...
    def math(self, formula: str, display: bool) -> str: ...  # raises ReportError for what is none


# -------------------------------------------------------------------------------- Markdown


def markdown(text: str) -> str:
    """The HTML of a Markdown text; a formula is `<code class="formula">`, or "formula display"."""
    return PARSER.render(text)


def line(text: str) -> str:
    """The HTML of one line of Markdown."""
    return PARSER.renderInline(text)


def plain(page: str) -> str:
    """The text of a piece of HTML, without its marks."""
    return " ".join(re.sub(r"[$\\{}]", "", parsed(page).get_text()).split())


def slug(name: str) -> str:
    """A heading as links name it, in Jupyter ("My-Part") or on GitHub ("my-part")."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", name).strip()).lower()


def parsed(page: str) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


def places(page: BeautifulSoup) -> list[Tag]:
    """What links may lead to: headings, and what has a name, as `<a id="here">`."""
    return page(lambda tag: HEADINGS.fullmatch(tag.name) or tag.get("id") or tag.get("name"))


def name_of(place: Tag) -> str:
    return plain(str(place)) if HEADINGS.fullmatch(place.name) else place.get("id") or place["name"]


def _dashes(state: StateCore) -> None:
    """Hyphens and dots as a typographer sets them; what is escaped, an address or code stays as it is."""
    for block in state.tokens:
        for before, token in zip([None, *(block.children or [])], block.children or []):
            if token.type == "text" and not (before and before.info == "auto"):
                text = token.content.replace("---", "—").replace("--", "–")
                token.content = text.replace("...", "…")


def _formula(self, tokens, place: int, options, env) -> str:
    display = tokens[place].type != "math_inline"
    shown = Tag(name="code", attrs={"class": "formula display" if display else "formula"})
    shown.string = tokens[place].content
    return f"<p>{shown}</p>" if tokens[place].block else str(shown)


def _parser() -> MarkdownIt:
    """What Jupyter reads as Markdown: CommonMark with tables, strikethrough and formulas."""
    parser = MarkdownIt("commonmark", {"typographer": True}).enable(["table", "strikethrough", "smartquotes"])
    parser.use(dollarmath_plugin, allow_labels=False, double_inline=True)
    parser.core.ruler.before("text_join", "dashes", _dashes)
    for kind in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(kind, _formula)
    known = parser.validateLink
    parser.validateLink = lambda url: known(url) or url.lower().startswith("data:image/")
    return parser


PARSER = _parser()


# -------------------------------------------------------------------------------- made safe


class _Silenced(Filter):
    """Leaves out the tags that nobody shows, with all that is in them."""

    def __iter__(self):
        depth = 0
        for token in super().__iter__():
            if token.get("name") in SILENT:
                depth += {"StartTag": 1, "EndTag": -1}.get(token["type"], 0)
            elif depth <= 0:
                yield token


CLEANER = Cleaner(
    tags=TAGS | SILENT,
    attributes={"*": ATTRIBUTES, "a": ["href", "name"], "img": ["src", "alt"]},
    protocols=SCHEMES,
    css_sanitizer=CSSSanitizer(STYLES),
    filters=[_Silenced],
)


def safe(page: str, to: Places, dollars: bool = False) -> BeautifulSoup:
    """A piece of HTML with known tags and attributes only, other tags as the text that they are, each link, image and
    formula as `to` wants it. `dollars`: whether $...$ is a formula, as it is to Jupyter in HTML.
    """
    soup = parsed(CLEANER.clean(page))
    if dollars:
        _mark_formulas(soup)
    for place in places(soup):
        place["id"] = to.anchor(name_of(place))
        place.attrs.pop("name", None)
    for link in soup("a", href=True):
        if (words := link.get_text()) != (cited := to.cited(link["href"], words)):
            link.string = cited
        link["href"] = to.target(link["href"])
    for image in soup("img"):
        _place(image, to)
    for formula in soup.select("code.formula"):
        formula.replace_with(parsed(to.math(formula.get_text(), "display" in formula["class"])))
    for head in soup("th"):  # one without words is read out as one: a corner of the table, no head
        head.name = "th" if head.get_text(strip=True) else "td"
    return soup


def _mark_formulas(soup: BeautifulSoup) -> None:
    for text in soup.find_all(string=FORMULA):
        if not text.find_parent(["code", "pre"]):
            pieces = FORMULA.split(text)
            for number, piece in enumerate(pieces):
                formula = Tag(name="code", attrs={"class": ["formula"]})
                formula.string = piece
                text.insert_before(formula if number % 2 else piece)
            text.extract()


def _place(image: Tag, to: Places) -> None:
    """An image where the pages find it; of one that is elsewhere, its words, as a link to it."""
    address = image.get("src", "")
    if path := to.image(address):
        image["src"], image["alt"] = path, image.get("alt", "")
        return
    words = image.get("alt") or address.rpartition("/")[2]
    if not image.find_parent("a"):
        link = Tag(name="a", attrs={"href": to.target(address)})
        link.string = words
        words = link
    image.replace_with(words)
