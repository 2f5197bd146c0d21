"""The site: MyST Markdown of the chapters, built by Sphinx. Its pages need no network and no server: what they link to
lies beside them."""

import html as markup
import re
import shutil
import tempfile
from pathlib import Path

from helpers.publish.chapters import ASSETS, SUBTITLE, TITLE, Chapter, Code, Float, ReportError, Writer, fenced, read

HTML_LINK = re.compile(r'\b(href|src)="([^"]+)"')


class Site(Writer):
    """For Sphinx: MyST Markdown, a file `files/...` for each thing linked to."""

    def link(self, text: str, target: str) -> str:
        # As HTML, because Sphinx would take links to files and to anchors in raw HTML for broken.
        return f'<a href="{markup.escape(target)}">{text}</a>'

    def embed(self, text: str, file: Path) -> str:
        return f"![{text}]({self._copy(file)})"

    def to_float(self, label: str) -> str:
        return f"{self.homes[label]}.html#{label}"

    def to_chapter(self, stem: str) -> str:
        return f"{stem}.html"

    def to_file(self, path: str) -> str:
        return self._copy(self.source(path))

    def _copy(self, file: Path) -> str:
        # Under the two last parts of its path, so that results/a.json and figures/a.json stay apart.
        name = Path("files", *file.parts[-2:])
        (self.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, self.folder / name)
        return name.as_posix()

    def code(self, block: Code) -> str:
        source = fenced("text" if block.shown else "python", block.text)
        if block.shown:
            return source
        return "\n\n".join([_raw("<details><summary>Show code</summary>"), source, _raw("</details>")])

    def figure(self, block: Float) -> str:
        image = f'<img src="{self.picture(block)}" alt="{markup.escape(block.alt)}">'
        opening = _raw(f'<figure id="{block.label}">{image}<figcaption>')
        return "\n\n".join([opening, self.caption(block), _raw("</figcaption></figure>")])

    def table(self, block: Float) -> str:
        opening = _raw(f'<figure id="{block.label}"><figcaption>')
        page = HTML_LINK.sub(self._linked_html, block.html)
        page = re.sub(r"\$([^$\n<]+)\$", lambda m: _mathml(markup.unescape(m[1])), page)
        # Focusable, so that a wide table scrolls by keyboard too.
        box = f'</figcaption><div class="scroll" tabindex="0">{page}</div></figure>'
        return "\n\n".join([opening, self.caption(block), _raw(box)])

    def footer(self, chapter: Chapter) -> str:
        """The way back from a page to its notebook."""
        link = self.link(chapter.path.name, self._copy(chapter.path))
        return _raw(f'<p class="source">This page is the notebook {link}.</p>')

    def index(self, printed: Path) -> str:
        """The entry page: what it is, the PDF if there is one, chapters, tables and figures."""
        names = "\n".join(Path(name).stem for name in self.chapters)
        contents = f"```{{toctree}}\n:maxdepth: 2\n\n{names}\n```"
        about = f"{SUBTITLE}."
        if printed.exists():
            shutil.copyfile(printed, self.folder / "files/report.pdf")
            about += f" {self.link('To print (PDF)', 'files/report.pdf')}"
        return "\n\n".join([f"# {TITLE}", about, contents, self._listed("Table"), self._listed("Figure")])

    def _listed(self, kind: str) -> str:
        found = [f for f in self.floats.values() if f.kind == kind]
        lines = [f"- {self.link(f.name, self.to_float(f.label))}: {self.text(f.caption)}" for f in found]
        return "\n".join([f"## {kind}s\n", *lines]) if found else ""

    def _linked_html(self, link: re.Match) -> str:
        return f'{link[1]}="{markup.escape(self.target(markup.unescape(link[2])))}"'


def _raw(text: str) -> str:
    return fenced("{raw} html", text)


def _mathml(formula: str, display: str = "inline") -> str:
    from latex2mathml.converter import convert

    try:
        return convert(formula, display=display)
    except Exception as error:  # the converter has no common error of its own
        raise ReportError(f"can't read the formula ${formula}$: {error!r}") from None


def html(notebooks: list[Path], output: Path, sources: Path | None = None) -> Path:
    """Writes the site of executed notebooks; gives `output/html/index.html`.

    Relative links start from `sources` (by default: from where the notebooks are); the files linked to are
    copied into the site, and so is `output/report.pdf` where it exists.
    """
    chapters = read(notebooks)
    target = output / "html"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site = Site(chapters, sources or notebooks[0].parent, folder / "pages")
        for chapter in chapters:
            page = f"{site.page(chapter)}\n\n{site.footer(chapter)}"
            (site.folder / f"{chapter.path.stem}.md").write_text(page, encoding="utf-8")
        (site.folder / "index.md").write_text(site.index(output / "report.pdf"), encoding="utf-8")
        _sphinx(site.folder, folder / "html", folder / "doctrees")
        shutil.copytree(site.folder / "files", folder / "html" / "files")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "html", target)
    return target / "index.html"


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
        raise ReportError(f"Sphinx: {found.splitlines()[0].replace(f'{source}/', '')}")


def _configuration() -> dict:
    return {
        "project": TITLE,
        "html_title": TITLE,
        "extensions": ["myst_parser", __name__],
        "myst_enable_extensions": ["dollarmath"],
        "myst_dmath_double_inline": True,
        # "app": that a second build in the same process finds Sphinx set up already.
        "suppress_warnings": ["myst.header", "misc.highlighting_failure", "app"],
        "html_math_renderer": "mathml",
        "html_theme": "sphinx_book_theme",
        "html_theme_options": {
            "use_download_button": False,
            "show_toc_level": 2,
            "home_page_in_toc": True,
            "footer_content_items": [],
            "navbar_persistent": [],  # the search field is in the sidebar
        },
        "html_context": {"default_mode": "auto"},
        "html_static_path": [str(ASSETS)],
        "html_css_files": ["report.css"],
        "html_copy_source": False,
        "html_show_copyright": False,
        "html_show_sphinx": False,
        "html_use_index": False,  # there is nothing in it
        # Summaries of search results are fetched, which a browser forbids to pages from the file system.
        "html_show_search_summary": False,
    }


def setup(app) -> dict:
    """Sphinx's hook for extensions: formulas become MathML at build time, so that no page loads MathJax."""
    from docutils.nodes import SkipNode

    def render(display):
        def visit(translator, node):
            translator.body.append(_mathml(node.astext(), display))
            raise SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", inline_renderers=render("inline"), block_renderers=render("block"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
