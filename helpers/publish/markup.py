"""Markdown and HTML of notebooks, read by a parser and made safe, as tokens that both site and paper render. Nothing of
it may run, load from elsewhere, or reach a renderer as anything but text, links, images, formulas and formatting."""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Protocol

from bleach.css_sanitizer import CSSSanitizer
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

TAGS = frozenset(
    "a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt em figcaption figure h1 "
    "h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp section small span strike strong sub summary sup table "
    "tbody td tfoot th thead tr tt u ul var wbr".split()
)
ATTRIBUTES = frozenset(
    "align class colspan dir height lang open reversed rowspan scope span start title type valign width".split()
)
VOID = ("br", "col", "hr", "img", "wbr")
SILENT = ("script", "style", "template")  # shown by nobody, content included
STYLES = CSSSanitizer(
    "background-color color font-family font-size font-style font-weight margin max-width min-width padding text-align "
    "text-decoration vertical-align white-space width".split()
)
FORMULA = re.compile(r"\$([^$\n]+)\$")


class Markup(Protocol):
    """What site and paper do differently: where things are, and how a formula is written in HTML."""

    def target(self, address: str) -> str: ...
    def image(self, address: str) -> str | None: ...  # None: it is elsewhere
    def anchor(self, name: str) -> str: ...
    def cited(self, address: str, words: str) -> str: ...
    def math(self, formula: str) -> str: ...  # raises ReportError for what is none


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return super().validateLink(url) or url.lower().startswith("data:image/")


def _dashes(state: StateCore) -> None:
    """Hyphens and dots as Pandoc and Sphinx set them; what is escaped or code stays as it is."""
    for block in state.tokens:
        for before, token in zip([None, *(block.children or [])], block.children or []):
            if token.type == "text" and not (before and before.info == "auto"):
                text = token.content.replace("---", "—").replace("--", "–")
                token.content = text.replace("...", "…")


def script(formula: str, display: bool = False) -> str:
    """A formula as HTML has it where Pandoc reads it."""
    mode = "; mode=display" if display else ""
    return f'<script type="math/tex{mode}">{formula.replace("</", "< /")}</script>'


def _formula(renderer, tokens: list[Token], place: int, options, env) -> str:
    shown = script(tokens[place].content, display=tokens[place].type != "math_inline")
    return f"<p>{shown}</p>" if tokens[place].block else shown


def _parser() -> MarkdownIt:
    """What Jupyter reads as Markdown: CommonMark with tables, strikethrough and formulas."""
    parser = _Parser("commonmark", {"typographer": True}).enable(["table", "strikethrough", "smartquotes"])
    parser.use(dollarmath_plugin, allow_labels=False, double_inline=True)
    parser.core.ruler.before("text_join", "dashes", _dashes)
    for kind in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(kind, _formula)
    return parser


PARSER = _parser()


def parse(markdown: str) -> list[Token]:
    """The blocks of a Markdown text."""
    return PARSER.parse(markdown)


def inline(markdown: str) -> list[Token]:
    """One line of Markdown, as the only paragraph."""
    return [Token("paragraph_open", "p", 1), *PARSER.parseInline(markdown), Token("paragraph_close", "p", -1)]


def raw(text: str) -> Token:
    """A piece of HTML of our own."""
    return Token("html_block", "", 0, content=text)


def fence(language: str, text: str) -> Token:
    return Token("fence", "code", 0, content=text + "\n", info=language, markup="```", block=True)


def rendered(tokens: list[Token]) -> str:
    """Tokens as HTML."""
    return PARSER.renderer.render(tokens, PARSER.options, {})


# -------------------------------------------------------------------------------- what is in it


def words(token: Token) -> str:
    """The text of an inline token, without its marks."""
    return "".join(words(t) if t.children else t.content for t in token.children or [] if t.type != "html_inline")


def plain(markdown: str) -> str:
    """One line of Markdown or HTML, without its marks."""
    text = "".join(map(words, PARSER.parseInline(markdown)))
    return re.sub(r"[$\\{}]", "", text)


def slug(name: str) -> str:
    """A heading as links name it, in Jupyter ("My-Part") or on GitHub ("my-part")."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", name).strip()).lower()


def headings(tokens: list[Token]) -> Iterator[str]:
    """The text of each heading."""
    return (words(after) for token, after in zip(tokens, tokens[1:]) if token.type == "heading_open")


def anchors(tokens: list[Token]) -> Iterator[str]:
    """The names of places that pieces of HTML set: `<a id="here">`."""
    found: list[str] = []
    for token in tokens:
        for piece in [token, *(token.children or [])]:
            if piece.type in ("html_block", "html_inline"):
                _Names(found).feed(piece.content)
    return iter(found)


class _Names(HTMLParser):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def handle_starttag(self, tag: str, attributes) -> None:
        self.found += [value for name, value in attributes if value and (name == "id" or (tag, name) == ("a", "name"))]


# -------------------------------------------------------------------------------- made safe


def safe(tokens: list[Token], to: Markup) -> list[Token]:
    """The same with links, images and pieces of HTML as `to` wants them; the tokens given stay as they were."""
    return [_safe(token, to) for token in tokens]


def _safe(token: Token, to: Markup) -> Token:
    if token.type == "inline":
        return token.copy(children=list(_inline(token.children or [], to)))
    if token.type == "html_block":
        return raw(cleaned(token.content, to))
    if token.type == "fence":  # a name in braces would be a directive to Sphinx
        return token.copy(info="".join(re.findall(r"^[\w+#.-]+", token.info)))
    if token.type == "math_block":
        to.math(token.content)
    return token.copy()


def _inline(children: list[Token], to: Markup) -> Iterator[Token]:
    link = ""  # the address of the link that we are in
    for token in children:
        if token.type == "link_open":
            link = str(token.attrs["href"])
            title = f' title="{html.escape(str(token.attrs["title"]))}"' if "title" in token.attrs else ""
            yield _piece(f'<a href="{html.escape(to.target(link))}"{title}>')
        elif token.type == "link_close":
            link = ""
            yield _piece("</a>")
        elif token.type == "image":
            yield _piece(_image(str(token.attrs["src"]), words(token), "", to, linked=bool(link)))
        elif token.type == "html_inline":
            yield _piece(cleaned(token.content, to))
        else:
            if token.type.startswith("math_inline"):
                to.math(token.content)
            yield token.copy(content=to.cited(link, token.content) if link else token.content)


def _piece(text: str) -> Token:
    return Token("html_inline", "", 0, content=text)


def _image(address: str, alt: str, attributes: str, to: Markup, linked: bool) -> str:
    """An image; of one that is elsewhere, its words, as a link to it."""
    alt = html.escape(alt)
    if path := to.image(address):
        return f'<img src="{html.escape(path)}" alt="{alt}"{attributes}>'
    name = alt or html.escape(address.rpartition("/")[2])
    return name if linked else f'<a href="{html.escape(to.target(address))}">{name}</a>'


def cleaned(page: str, to: Markup, formulas: bool = False) -> str:
    """A piece of HTML in which nothing runs: known tags and attributes, the rest as the text that it is.

    `formulas`: whether $...$ is one, as it is in Jupyter.
    """
    cleaner = _Cleaner(to, formulas)
    cleaner.feed(page)
    cleaner.close()
    # A head without words is read out as one: a corner of the table, no head.
    return re.sub(r"<th([^>]*)>\s*</th>", r"<td\1></td>", "".join(cleaner.out))


class _Cleaner(HTMLParser):
    """Writes anew what it reads, so that a browser can't read it otherwise."""

    def __init__(self, to: Markup, formulas: bool) -> None:
        super().__init__()
        self.to, self.formulas, self.out = to, formulas, []
        self.open: list[str] = []  # of the tags in which text means something else

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in SILENT or tag in ("a", "code", "pre"):
            self.open.append(tag)
        if tag in SILENT or self._silent():
            return
        if tag not in TAGS:
            self.out.append(html.escape(self.get_starttag_text() or ""))
            return
        given = {name: value or "" for name, value in attributes}
        kept = "".join(f' {name}="{html.escape(value)}"' for name, value in self._kept(tag, given))
        if tag == "img":
            self.out.append(_image(given.get("src", ""), given.get("alt", ""), kept, self.to, "a" in self.open))
        else:
            self.out.append(f"<{tag}{kept}>")

    def _kept(self, tag: str, given: dict[str, str]) -> Iterator[tuple[str, str]]:
        for name, value in given.items():
            if name in ATTRIBUTES:
                yield name, value
            elif name == "style" and (style := STYLES.sanitize_css(value)):
                yield name, style
            elif value and (name == "id" or (tag, name) == ("a", "name")):
                yield "id", self.to.anchor(value)
            elif (tag, name) == ("a", "href"):
                yield name, self.to.target(value)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)  # to a browser the stroke means nothing

    def handle_endtag(self, tag: str) -> None:
        silent = self._silent()
        if tag in self.open:
            self.open.remove(tag)
        if silent or tag in SILENT or tag in VOID:
            return
        self.out.append(f"</{tag}>" if tag in TAGS else html.escape(f"</{tag}>"))

    def handle_data(self, data: str) -> None:
        if self._silent():
            return
        if not self.formulas or "code" in self.open or "pre" in self.open:
            self.out.append(html.escape(data, quote=False))
            return
        parts = FORMULA.split(data)
        parts[::2] = [html.escape(part, quote=False) for part in parts[::2]]
        parts[1::2] = [self.to.math(part) for part in parts[1::2]]
        self.out += parts

    def _silent(self) -> bool:
        return any(tag in SILENT for tag in self.open)
