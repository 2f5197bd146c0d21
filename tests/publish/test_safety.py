"""What comes in with a notebook or a record is text: it never runs, loads, leads to files elsewhere, or is Typst."""

import re
import shutil
import subprocess

import pytest

from helpers.publish import build, chapters, markup, paper
from tests.publish.made import SVG, code, result, text, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
IMAGE = "<img src=http://127.0.0.1:9/y onerror=\"document.title='ran'\">"
HOSTILE = [
    IMAGE,
    "<script>document.title='ran'</script><script src=//127.0.0.1:9/s.js>",
    "<svg onload=\"document.title='ran'\"><iframe src=http://127.0.0.1:9/f></iframe></svg>",
    "[x](javascript:document.title='ran') <javascript:document.title='ran'>",
    '`#raw(read("/etc/passwd"))`{=typst} #panic("ran")',
    '<pre data-typst="block"><code>#panic("ran")</code></pre>',
    f"$\\text{{{IMAGE}}}$ and $x</script><pre data-typst='block'><code>#panic(1)</code></pre>$",
    "![x](http://127.0.0.1:9/i.png) <a href='http://127.0.0.1:9/a' onclick=\"document.title='ran'\">a</a>",
    "<div style='position:fixed;background:url(http://127.0.0.1:9/b)'>d</div>",
    "<form action=http://127.0.0.1:9/><button autofocus onfocus=\"document.title='ran'\">b</button></form>",
    "<noscript><p title=\"</noscript><img src=x onerror=document.title='ran'>\">",
    "<a id=\"x' onmouseover='1\" href=\"https://a.example/' onclick='1\">a</a> <base href=http://127.0.0.1:9/>",
]
BLOCKS = [
    "```{raw} html\n" + IMAGE + "\n```",
    "```{include} /etc/passwd\n```",
    "```{eval-rst}\n.. raw:: html\n\n   " + IMAGE + "\n```",
    '```{=typst}\n#panic("ran")\n```',
    '```typst\n#panic("ran")\n```',
    "<style>@import 'http://127.0.0.1:9/s.css';</style>\n\n<div data-typst=\"block\">\n\n{raw}`x` (target)=\n\n</div>",
]


def table(cell):
    escaped = cell.replace("|", "\\|").replace("\n", " ")
    return result(html=f"<table><tr><td>{cell}</td></tr></table>", md=f"| {escaped} |\n|---|\n| {escaped} |")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A report whose captions, sources, tables and outputs all hold what an attacker would write."""
    root = tmp_path_factory.mktemp("hostile")
    cells = [text("\n\n".join(BLOCKS))]
    for each in HOSTILE:
        cells += [text(f"Source: budget paper, {each}."), code("t", table(each), caption=f"Caption. Then {each}")]
        cells += [code("h", result(html=f"<p>{each}</p>")), code("m", result(md=f"*Source: {each}; n = 3*"))]
    write(
        root / "01_hostile.ipynb",
        *cells,
        code("c", result(svg=SVG.format(9)), caption="Words.", alt='\\", panic("ran"), "'),
    )
    build.build(root, root / "out", run=False)
    return root / "out"


def test_nothing_hostile_is_left_in_the_pages(site):
    for path in (site / "html").glob("*.html"):
        page = re.sub(r"<script(?: [^>]*)?>.*?</script>", "", path.read_text(), flags=re.DOTALL)
        tags = re.findall(r"""<[a-zA-Z](?:[^>"]|"[^"]*")*>""", page)
        bare = [re.sub(r'"[^"]*"', '""', tag) for tag in tags]
        assert not [tag for tag in bare if re.search(r"\son\w+\s*=|<base|<iframe|<svg|<button autofocus", tag)]
        assert not [tag for tag in tags if "javascript:" in tag or ("127.0.0.1" in tag and not tag.startswith("<a "))]
        assert "root:x:" not in page


def test_nothing_hostile_is_left_in_print(site):
    printed = subprocess.run(["pdftotext", site / "report.pdf", "-"], capture_output=True, text=True).stdout
    assert "root:x:" not in printed
    assert '#panic("ran")' in printed.replace("“", '"').replace("”", '"')  # as words


def test_every_page_has_a_policy_that_allows_no_request(site):
    pages = list((site / "html").glob("*.html"))
    assert len(pages) >= 3
    for path in pages:
        head = path.read_text().partition("<script")[0]
        [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', head)
        assert policy.startswith("default-src 'none';") and "http" not in policy
        assert "unsafe-inline" not in re.search(r"script-src[^;]+", policy)[0]


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_nothing_runs_and_nothing_is_requested_in_a_browser(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    asked, refused, errors = [], [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
        tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        for path in sorted((site / "html").glob("*.html")):
            tab.goto(path.as_uri())
            assert tab.title() != "ran"
        assert not errors and not [url for url in asked if not url.startswith(("file:", "data:"))]
        # The policy holds by itself, should something have got through.
        tab.evaluate(f"document.body.insertAdjacentHTML('beforeend', {IMAGE!r})")
        tab.wait_for_timeout(200)
        assert tab.title() != "ran"
        browser.close()
    assert refused == [("http://127.0.0.1:9/y", "csp")]


@pytest.mark.parametrize(
    "address",
    [
        "../../../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "%2e%2e/secret.txt",
        ".hidden",
        "link",
        "a%00b",
        "x" * 300,
    ],
)
@pytest.mark.parametrize("form", ["[x]({})", "![x]({})", '<a href="{}">x</a>', '<img src="{}">'])
def test_files_elsewhere_are_not_published(address, form, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / ".hidden").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    notebook = write(folder / "a.ipynb", text(form.format(address)))
    if form[0] in "[!" and address.startswith("file:"):  # no link to Markdown
        return
    site = chapters.read([notebook])
    with pytest.raises(chapters.ReportError, match=r"^a\.ipynb, cell 2: (links to|shows) "):
        paper.Paper(site, folder, tmp_path / "pages", tmp_path).page(site[0])


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<b onclick=x>b</b><br/><hr />", "<b>b</b><br/><hr/>"),
        ("<p style='text-align: right; position: fixed'>1</p>", '<p style="text-align: right;">1</p>'),
        ("<table><tr><th> <th>a</table>", "<table><tbody><tr><td> </td><th>a</th></tr></tbody></table>"),
        ("<script>a</script>b<style>c</style><!-- d --><?php e ?><script>f", "b"),
        ("<video src=x>v</video>", "&lt;video src=x&gt;v&lt;/video&gt;"),
        ("1 < 2 &amp;&lt;b&gt;", "1 &lt; 2 &amp;&lt;b&gt;"),
        ("<p title='\"><img src=x>'>t</p>", "<p title='\"&gt;&lt;img src=x&gt;'>t</p>"),
        ("<a href=\"javascript:x\">a</a><a href='java\nscript:x'>b</a>", "<a>a</a><a>b</a>"),
    ],
)
def test_html_is_written_anew(page, expected):
    assert str(markup.safe(page, None)) == expected
