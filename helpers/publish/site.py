"""The site: HTML of the chapters, dressed by Sphinx. Its pages need no network and no server, make no request to
elsewhere and run nothing of a notebook's: what they link to lies beside them.
"""

import html as markup
import re
import shutil
import tempfile
from base64 import b64encode
from functools import cache
from hashlib import sha256
from io import StringIO
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from docutils import nodes
from latex2mathml.converter import convert_to_element
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_by_name
from pygments.util import ClassNotFound
from sphinx.addnodes import toctree
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.parsers import Parser

from helpers.publish.chapters import ASSETS, MARK, SUBTITLE, TITLE, Chapter, Code, Float, ReportError, first_line
from helpers.publish.markup import HEADINGS, parsed
from helpers.publish.writer import Writer

# What a page may do; {} are the theme's own scripts, by their hashes.
POLICY = (
    "default-src 'none'; script-src 'self' file: {}; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data:; font-src 'self' file:; form-action 'self' file:; base-uri 'none'"
)


SCROLL = {"class": "scroll", "tabindex": "0"}  # focusable, so that what is wide scrolls by keyboard too


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

    def math(self, formula: str, display: bool) -> str:
        if not display:
            return mathml(formula, "inline")
        return f'<span class="scroll" tabindex="0">{mathml(formula, "block")}</span>'

    def prose(self, text: BeautifulSoup) -> BeautifulSoup:
        for table in text("table"):
            table.wrap(text.new_tag("div", attrs=SCROLL))
        for code in text.select("pre > code"):
            language = " ".join(code.get("class", ())).removeprefix("language-")
            code.parent.replace_with(parsed(highlighted(code.get_text(), language)))
        return super().prose(text)

    def code(self, block: Code) -> str:
        source = highlighted(block.text, block.language)
        return f'<details class="code"><summary>code</summary>{source}</details>' if block.folded else source

    def figure(self, block: Float) -> str:
        image = f'<img src="{self.picture(block)}" alt="{markup.escape(block.alt)}">'
        return f'<figure id="{block.label}">{image}<figcaption>{self.caption(block)}</figcaption></figure>'

    def table(self, block: Float) -> str:
        shown = self.shown(block.html, dollars=True)
        return f'<figure id="{block.label}"><figcaption>{self.caption(block)}</figcaption>{shown}</figure>'

    def chapter_page(self, chapter: Chapter) -> str:
        """A page, which ends with the way back to its notebook."""
        path = quote(self.to_file(chapter.path, Path("notebooks", chapter.path.name)))
        return f'{self.page(chapter)}<p class="source">This page is the notebook {_link(path, chapter.path.name)}.</p>'

    def landing(self, printed: Path) -> str:
        """The first page: what the notebooks have for it (tag "landing"), then the chapters."""
        about = f"{SUBTITLE}."
        if printed.exists():
            about += f" {_link(self.to_file(printed, Path('report.pdf')), 'To print (PDF)')}"
        lines, shown = [], ""
        for chapter in self.chapters.values():
            shown += self.page(chapter, [b for b in chapter.blocks if "landing" in b.tags and not isinstance(b, Code)])
            number = f'<span class="number">{chapter.number}</span>'
            lines.append(f"<li>{number}{_link(self.to_place(chapter, ''), chapter.title)}</li>")
        shown = re.sub("<h1.*?</h1>", "", shown, flags=re.DOTALL)
        listed = f'<h2 id="chapters">Chapters</h2><ul class="chapters">{"".join(lines)}</ul>'
        return f'<h1 id="report">{TITLE}</h1><p class="about">{about}</p>{shown}{listed}'


def _link(target: str, words: str) -> str:
    return f'<a href="{markup.escape(target)}">{markup.escape(words)}</a>'


def highlighted(code: str, language: str) -> str:
    """Code as HTML, in colours where its language is known."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = TextLexer()
    return highlight(code, lexer, HtmlFormatter()).replace("<pre>", '<pre tabindex="0">', 1)


@cache
def mathml(formula: str, display: str) -> str:
    """A formula as MathML. Raises ReportError if it is none."""
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
    target = output / "html"
    with tempfile.TemporaryDirectory() as temporary:
        site = Site(chapters, sources, Path(temporary))
        pages = {chapter.page: site.chapter_page(chapter) for chapter in chapters}
        pages["index"] = site.landing(output / "report.pdf")
        for name, page in pages.items():
            (site.folder / f"{name}.page").write_text(page, encoding="utf-8")
        _sphinx(site.folder, target, [chapter.page for chapter in chapters])
        for name in ("files", "images"):
            shutil.copytree(site.folder / name, target / name)
    for page in target.glob("*.html"):
        page.write_text(_guarded(page.read_text(encoding="utf-8")), encoding="utf-8")
    return target / "index.html"


def _guarded(page: str) -> str:
    """A page that tells a browser to run the theme's scripts only, and to ask nobody for anything."""
    theme = re.sub(r"<article.*</article>", "", page, flags=re.DOTALL)
    scripts = {_hash(script) for script in re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", theme, re.DOTALL)}
    policy = POLICY.format(" ".join(sorted(scripts)))
    metas = f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="generator" content="{MARK}">'
    return re.sub(r"(<meta charset=[^>]*>)", rf"\1{metas}", page, count=1)


def _hash(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


# -------------------------------------------------------------------------------- Sphinx


def _sphinx(source: Path, target: Path, pages: list[str]) -> None:
    warnings = StringIO()
    options = CONFIGURATION | {"html_context": {"default_mode": "auto"}, "report_pages": pages}
    try:
        app = Sphinx(source, None, target, source / ".doctrees", "html", options, status=None, warning=warnings)
        app.build()
    except SphinxError as error:
        raise ReportError(str(error).splitlines()[-1]) from None
    if found := warnings.getvalue().strip():
        raise ReportError(f"Sphinx: {first_line(found.replace(f'{source}/', ''))}")


CONFIGURATION = {
    "project": TITLE,
    "html_title": TITLE,
    "source_suffix": {".page": "page"},
    "exclude_patterns": ["files"],
    "extensions": [__name__],
    "suppress_warnings": ["app"],  # that a second build in the same process finds Sphinx set up already
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {
        "use_download_button": False,
        "use_fullscreen_button": False,  # its script stands in an attribute, where none may run
        "secondary_sidebar_items": [],  # a chapter's sections stand below it, on the left
        "footer_content_items": [],
        "navbar_persistent": [],  # the search field is in the sidebar
    },
    "html_static_path": [str(ASSETS / "report.css")],
    "templates_path": [str(ASSETS)],
    "html_sidebars": {"**": ["title.html", "search-button-field.html", "chapters.html"]},
    "html_css_files": ["report.css"],
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_use_index": False,  # there is nothing in it
    # Summaries of search results are fetched, which a browser forbids to pages from the file system.
    "html_show_search_summary": False,
}


class PageParser(Parser):
    """Reads pages that are HTML already: their headings become sections, all else stays as it is."""

    supported = ("page",)

    def parse(self, inputstring: str, document) -> None:
        open_sections = [document]
        for part in parsed(inputstring).children:
            if part.name and HEADINGS.fullmatch(part.name):
                del open_sections[int(part.name[1]) :]
                section = nodes.section("", nodes.title("", part.get_text()), ids=[part["id"]])
                open_sections[-1] += section
                open_sections.append(section)
            else:
                open_sections[-1] += nodes.raw("", str(part), format="html")
        if document.settings.env.docname == "index":
            pages = document.settings.env.config.report_pages
            entries = [(None, page) for page in pages]
            document += toctree(
                parent="index", entries=entries, includefiles=pages, maxdepth=-1, glob=False, hidden=True, numbered=0
            )


def setup(app) -> dict:
    """Sphinx's hook for extensions."""
    app.add_config_value("report_pages", [], "env")
    app.add_source_parser(PageParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
