"""The committed notebooks as a site, in a real browser: pages open whole and quiet, alone, at a desk and on a phone."""

import shutil
from pathlib import Path

import pytest

from helpers.publish import build, chapters
from helpers.records import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
SIZES = {"desk": (1280, 900), "phone": (390, 800)}

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of the notebooks as they are committed; the PDF has tests of its own."""
    notebooks = [ROOT / "notebooks" / f"{name}.ipynb" for name in PAGES]
    return build.html(chapters.read(notebooks), tmp_path_factory.mktemp("site"), ROOT / "notebooks").parent


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, request):
    """A tab that remembers in `tab.bad` what went wrong: requests that leave or fail, errors, warnings."""
    width, height = SIZES[getattr(request, "param", "desk")]
    tab = browser.new_page(viewport={"width": width, "height": height})
    tab.bad = []
    tab.on("request", lambda made: None if made.url.startswith(("file:", "data:")) else tab.bad.append(made.url))
    tab.on("requestfailed", lambda failed: tab.bad.append(failed.url))
    tab.on("pageerror", lambda error: tab.bad.append(str(error)))
    tab.on("console", lambda said: tab.bad.append(said.text) if said.type in ("error", "warning") else None)
    yield tab
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(site, tab, scheme):
    """On a page of each kind; all of them would take minutes."""
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    tab.emulate_media(color_scheme=scheme)
    for name in ("index", "search", PAGES[0]):
        tab.goto((site / f"{name}.html").as_uri())
        tab.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")  # colours that fade in
        tab.evaluate(script)
        found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(name, each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.parametrize("name", ["index", "search", PAGES[0]])
def test_the_keyboard_shows_where_it_is(site, tab, name):
    tab.goto((site / f"{name}.html").as_uri())
    for _ in range(20):
        tab.keyboard.press("Tab")
        ringed = """() => {
            const style = getComputedStyle(document.activeElement)
            const plain = style.outlineStyle == "none" && style.boxShadow == "none"
            return document.activeElement == document.body || !plain || document.activeElement.outerHTML
        }"""
        assert tab.evaluate(ringed) is True


@pytest.mark.parametrize("name", ["index", "search", *PAGES])
@pytest.mark.parametrize("tab", SIZES, indirect=True)
def test_a_page_opens_quietly_and_fits(site, tab, name):
    tab.goto((site / f"{name}.html").as_uri())
    assert tab.inner_text("h1")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("[...document.images].filter(i => !i.alt.trim() || !i.naturalWidth).map(i => i.src)") == []
    assert tab.bad == []


def test_search_finds_dessilbi(site, tab):
    tab.goto((site / "search.html").as_uri() + "?q=DessiLBI")
    tab.wait_for_selector("#search-results li a")
    assert "DessiLBI" in tab.inner_text("#search-results")
    assert tab.bad == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "00_overview"])  # it leads to the chapters
def test_records_are_one_click_away(site, tab, name):
    tab.goto((site / f"{name}.html").as_uri())
    targets = tab.eval_on_selector_all("article a[href$='.json']", "links => links.map(a => a.href)")
    assert targets and all((site / target.split("/html/")[1]).is_file() for target in targets)


def test_links_between_pages_lead_somewhere(site, tab):
    tab.goto((site / "00_overview.html").as_uri())
    targets = set(tab.eval_on_selector_all("article a[href*='.html']", "links => links.map(a => a.href)"))
    assert len(targets) >= 7
    for target in targets:
        page, _, label = target.split("/html/")[1].partition("#")
        assert (site / page).is_file()
        assert not label or f'id="{label}"' in (site / page).read_text()


def test_a_single_notebook_is_exported_by_nbconvert(tmp_path):
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(ROOT / "notebooks" / "00_overview.ipynb"))
    assert "What came of it all?" in body and body.count("<table") >= 3
