"""The site: tokens of the chapters, built by Sphinx. Its pages need no network and no server, make no request to
elsewhere and run nothing of a notebook's: what they link to lies beside them."""

import html as markup
import json
import re
import shutil
import tempfile
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from markdown_it.token import Token
from sphinx.parsers import Parser

from helpers.publish.chapters import (
    ASSETS,
    MARK,
    SUBTITLE,
    TITLE,
    Chapter,
    Code,
    Float,
    ReportError,
    Writer,
    first_line,
)
from helpers.publish.markup import cleaned, fence, inline, parse, raw, safe, words

# What a page may do; {} are the theme's own scripts, by their hashes.
POLICY = (
    "default-src 'none'; script-src 'self' file: {}; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data:; font-src 'self' file:; form-action 'self' file:; base-uri 'none'"
)


class Site(Writer):
    """For Sphinx: a file `files/...` for each thing linked to."""

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path) -> None:
        super().__init__(chapters, sources, folder)
        self.copies: dict[Path, Path] = {}

    def to_float(self, label: str) -> str:
        return f"{quote(self.homes[label].page)}.html#{label}"

    def to_place(self, chapter: Chapter, name: str) -> str:
        return f"{quote(chapter.page)}.html" + (f"#{quote(chapter.anchor(name))}" if name else "")

    def to_file(self, file: Path, name: Path) -> str:
        while self.copies.setdefault(name, file) != file:  # another of this name
            name = name.with_name(f"_{name.name}")
        target = self.folder / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        return Path("files", name).as_posix()

    def math(self, formula: str) -> str:
        return mathml(formula, "inline")

    def text(self, tokens: list[Token]) -> list[Token]:
        found = []
        for token in super().text(tokens):
            if found and found[-1].type == "heading_open":
                # Just words, since contents repeat it, and a place of its name before it.
                token.children = [child for child in token.children or [] if child.type != "html_inline"]
                if (name := words(token)) != self.chapter.title:
                    found.insert(-1, raw(f'<span id="{self.anchor(name)}"></span>'))
            found.append(token)
        return found

    def code(self, block: Code) -> list[Token]:
        source = fence("text" if block.shown else "python", block.text)
        return [source] if block.shown else [raw("<details><summary>Show code</summary>"), source, raw("</details>")]

    def shown(self, page: str) -> list[Token]:
        # Focusable, so that a wide table scrolls by keyboard too.
        return [raw(f'<div class="scroll" tabindex="0">{cleaned(page, self, formulas=True)}</div>')]

    def figure(self, block: Float) -> list[Token]:
        image = f'<img src="{self.picture(block)}" alt="{markup.escape(block.alt)}">'
        opening = raw(f'<figure id="{block.label}">{image}<figcaption>')
        return [opening, *self.caption(block), raw("</figcaption></figure>")]

    def table(self, block: Float) -> list[Token]:
        opening = raw(f'<figure id="{block.label}"><figcaption>')
        return [opening, *self.caption(block), raw("</figcaption>"), *self.shown(block.html), raw("</figure>")]

    def footer(self, chapter: Chapter) -> Token:
        """The way back from a page to its notebook."""
        path = quote(self.to_file(chapter.path, Path("notebooks", chapter.path.name)))
        return raw(f'<p class="source">This page is the notebook {_link(path, chapter.path.name)}.</p>')

    def index(self, printed: Path | None) -> list[Token]:
        """The entry page: what it is, the PDF if there is one, chapters, tables and figures."""
        about = f"{SUBTITLE}."
        if printed:
            about += f" {_link(self.to_file(printed, Path('report.pdf')), 'To print (PDF)')}"
        contents = fence("{toctree}", "\n".join([":maxdepth: 2", "", *(c.page for c in self.chapters.values())]))
        lists = [token for kind in ("Table", "Figure") for token in self._listed(kind)]
        return [*parse(f"# {TITLE}"), raw(f"<p>{about}</p>"), contents, *lists]

    def _listed(self, kind: str) -> list[Token]:
        listed = parse(f"## {kind}s") + [Token("bullet_list_open", "ul", 1)]
        for block in (f for f in self.floats.values() if f.kind == kind):
            self.chapter = self.homes[block.label]
            line = safe(inline(f"[{block.name}](#{block.label}): {block.caption}"), self)
            listed += [Token("list_item_open", "li", 1), *line, Token("list_item_close", "li", -1)]
        return [*listed, Token("bullet_list_close", "ul", -1)] if len(listed) > 4 else []


def _link(target: str, words: str) -> str:
    return f'<a href="{markup.escape(target)}">{markup.escape(words)}</a>'


@cache
def mathml(formula: str, display: str) -> str:
    """A formula as MathML. Raises ReportError if it is none."""
    from latex2mathml.converter import convert_to_element

    try:
        text = ElementTree.tostring(convert_to_element(formula, display=display), encoding="unicode")
    except Exception as error:  # the converter has no common error of its own
        raise ReportError(f"can't read the formula ${first_line(formula, 80)}$: {first_line(repr(error))}") from None
    # Its signs are entities already; all other text stays escaped.
    return re.sub(r"&amp;(#x?[0-9A-Fa-f]+;)", r"&\1", text)


def html(chapters: list[Chapter], output: Path, sources: Path) -> Path:
    """Writes the site of notebooks; gives `output/html/index.html`. `output/html` must not exist.

    Relative links start from `sources`; the files linked to are copied into the site, and so is
    `output/report.pdf` where it exists.
    """
    target, printed = output / "html", output / "report.pdf"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site = Site(chapters, sources, folder / "pages")
        for chapter in chapters:
            _write(site.folder / chapter.page, [*site.page(chapter), site.footer(chapter)])
        _write(site.folder / "index", site.index(printed if printed.exists() else None))
        _sphinx(site.folder, folder / "html", folder / "doctrees")
        for name in ("files", "images"):
            shutil.copytree(site.folder / name, folder / "html" / name)
        for page in (folder / "html").glob("*.html"):
            page.write_text(_guarded(page.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.copytree(folder / "html", target)
    return target / "index.html"


def _write(page: Path, tokens: list[Token]) -> None:
    page.with_name(page.name + ".tokens").write_text(json.dumps([t.as_dict() for t in tokens]), encoding="utf-8")


def _guarded(page: str) -> str:
    """A page that tells a browser to run the theme's scripts only, and to ask nobody for anything."""
    theme = re.sub(r"<article.*</article>", "", page, flags=re.DOTALL)
    scripts = {_hash(script) for script in re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", theme, re.DOTALL)}
    policy = POLICY.format(" ".join(sorted(scripts)))
    metas = f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="generator" content="{MARK}">'
    return re.sub(r"(<meta charset=[^>]*>)", rf"\1{metas}", page, count=1)


def _hash(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _sphinx(source: Path, target: Path, doctrees: Path) -> None:
    from io import StringIO

    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError

    warnings = StringIO()
    try:
        app = Sphinx(source, None, target, doctrees, "html", _configuration(), status=None, warning=warnings)
        app.build()
    except SphinxError as error:
        raise ReportError(str(error).splitlines()[-1]) from None
    if found := warnings.getvalue().strip():
        raise ReportError(f"Sphinx: {first_line(found.replace(f'{source}/', ''))}")


def _configuration() -> dict:
    return {
        "project": TITLE,
        "html_title": TITLE,
        "source_suffix": {".tokens": "tokens"},
        "exclude_patterns": ["files"],
        "extensions": ["myst_parser", __name__],
        # "app": that a second build in the same process finds Sphinx set up already.
        "suppress_warnings": ["myst.header", "myst.strikethrough", "misc.highlighting_failure", "app"],
        "smartquotes": False,  # set already
        "html_math_renderer": "mathml",
        "html_theme": "sphinx_book_theme",
        "html_theme_options": {
            "use_download_button": False,
            "use_fullscreen_button": False,  # its script stands in an attribute, where none may run
            "show_toc_level": 2,
            "home_page_in_toc": True,
            "footer_content_items": [],
            "navbar_persistent": [],  # the search field is in the sidebar
        },
        "html_context": {"default_mode": "auto"},
        "html_static_path": [str(ASSETS / "report.css")],
        "templates_path": [str(ASSETS)],
        "html_sidebars": {"**": ["title.html", "search-button-field.html", "sbt-sidebar-nav.html"]},
        "html_css_files": ["report.css"],
        "html_copy_source": False,
        "html_show_copyright": False,
        "html_show_sphinx": False,
        "html_use_index": False,  # there is nothing in it
        # Summaries of search results are fetched, which a browser forbids to pages from the file system.
        "html_show_search_summary": False,
    }


class TokenParser(Parser):
    """Reads pages that are Markdown's tokens already."""

    supported = ("tokens",)

    def parse(self, inputstring: str, document) -> None:
        from myst_parser.mdit_to_docutils.sphinx_ import SphinxRenderer
        from myst_parser.parsers.mdit import create_md_parser

        parser = create_md_parser(document.settings.env.myst_config, SphinxRenderer)
        parser.options["document"] = document
        tokens = [Token.from_dict(each) for each in json.loads(inputstring)]
        for token in tokens:
            token.map = token.map or [0, 1]  # the renderer wants a line
        parser.renderer.render(tokens, parser.options, {})


def setup(app) -> dict:
    """Sphinx's hook for extensions: formulas become MathML at build time, so that no page loads MathJax."""
    from docutils.nodes import SkipNode

    def render(display):
        def visit(translator, node):
            translator.body.append(mathml(node.astext(), display))
            raise SkipNode

        return visit, None

    app.add_source_parser(TokenParser)
    app.add_html_math_renderer("mathml", inline_renderers=render("inline"), block_renderers=render("block"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
