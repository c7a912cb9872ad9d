"""The site: builds without a warning and without a network, and its links, images, formulas and scoreboard hold."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from campanion import METHODS
from campanion.notebooks import keys
from campanion.report.scoreboard import committed, rows
from campanion.report.sentences import answer, summaries
from campanion.results import load_results

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("sphinx", "myst_nb", "furo", "latex2mathml", "bs4")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_sphinx = pytest.mark.skipif(bool(missing), reason=f"the site needs {', '.join(missing)}")
# A proxy that is not there: whatever asked for the network would fail.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; any warning of Sphinx fails here, with its text."""
    out = tmp_path_factory.mktemp("site")
    hidden = ("CAMPANION_DATA", "CAMPANION_RESULTS", "CAMPANION_OUT")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | OFFLINE
    environment["CAMPANION_REPOSITORY"] = "owner/repository"
    command = [sys.executable, ROOT / "docs" / "build.py", "--out", out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=out)
    if done.returncode or done.stderr:
        pytest.fail(f"exit status {done.returncode}\n{done.stderr}", pytrace=False)
    return out / "site"


@pytest.fixture(scope="module")
def pages(site):
    """Every page, parsed, by its path in the site."""
    from bs4 import BeautifulSoup

    return {p.relative_to(site): BeautifulSoup(p.read_text("utf-8"), "html.parser") for p in site.rglob("*.html")}


@needs_sphinx
def test_every_notebook_and_card_has_a_page_and_is_in_the_navigation(pages):
    wanted = {f"notebooks/{key}.html" for key in keys()}
    wanted |= {f"data/checkpoints/{card.stem}.html" for card in ROOT.glob("data/checkpoints/*.md")}
    wanted |= {f"docs/{page.stem}.html" for page in ROOT.glob("docs/*.md") if page.stem != "index"}
    assert wanted - {str(path) for path in pages} == set()
    sidebar = pages[Path("index.html")].select_one(".sidebar-tree")
    assert wanted - {link["href"] for link in sidebar.select("a")} == set()


@needs_sphinx
def test_links_inside_the_site_lead_somewhere(site, pages):
    anchors = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag in page.select("a[href], img[src], script[src], link[href]"):
            address = urlsplit(tag.get("href") or tag.get("src"))
            if address.scheme or address.netloc:
                continue
            target = (site / path.parent / unquote(address.path)).resolve() if address.path else site / path
            fragment = unquote(address.fragment)
            known = anchors.get(target.relative_to(site), ())
            if not target.is_file() or (fragment and target.suffix == ".html" and fragment not in known):
                broken.append(f"{path}: {tag.get('href') or tag.get('src')}")
    assert broken == []


@needs_sphinx
def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = [
        tag.get("src") or tag.get("href")
        for page in pages.values()
        for tag in page.select("img[src], script[src], iframe[src], link[rel=stylesheet], link[rel=preload]")
    ]
    assert loaded
    assert [address for address in loaded if urlsplit(address).scheme not in ("", "data")] == []


@needs_sphinx
def test_every_image_has_an_alternative_text(pages):
    described = [(path, image.get("alt", "")) for path, page in pages.items() for image in page.select("article img")]
    assert len(described) > len(keys())
    assert [path for path, text in described if len(text.split()) < 4 or text.endswith(".png")] == []
    for path, texts in Counter(described).items():
        assert texts == 1, f"{path} has two images with the same text"


@needs_sphinx
def test_formulas_are_drawn_by_the_browser_itself(pages):
    text = pages[Path("docs/methods.html")].select_one("article")
    assert len(text.select("math")) > len(METHODS)
    assert not re.search(r"\\[a-zA-Z]|\$", text.get_text())
    notebook = pages[Path("notebooks/21_fd_table1_faithfulness.html")].select_one("article")
    assert "switch off" in notebook.select_one("div.math math").get_text().replace("\N{NO-BREAK SPACE}", " ")
    assert pages[Path("docs/api/game.html")].select_one("article").select("dt#campanion\\.game\\.ChannelGame\\.shapley")


@needs_sphinx
def test_the_front_page_is_the_scoreboard_of_the_committed_results(pages):
    page = pages[Path("index.html")]
    shown = [[cell.get_text() for cell in row.select("th, td")] for row in page.select("table.scoreboard tbody tr")]
    board = [(verdict, row) for verdict in committed() for row in rows(verdict)]
    assert [row[1].removesuffix(" (The bound is ours.)") for row in shown] == [v.claim.sentence for v, _ in board]
    for place, head in ((2, "Answer"), (4, "Paper"), (5, "Ours [95 % interval]"), (7, "Network and data")):
        assert [row[place] for row in shown] == [row[head] for _, row in board]
    judged = [row[2].split(" ", 1)[1].partition(" (")[0] for row in shown if row[7]]
    assert judged == [a.word for v in committed() for a in v.answers]
    assert page.select_one("meta[name=viewport]")["content"].startswith("width=device-width")


@needs_sphinx
def test_the_front_page_shows_every_notebook_with_its_answer_and_leads_to_the_maps(site, pages):
    page, results = pages[Path("index.html")], load_results(ROOT / "data" / "results")
    cards = {card["href"]: card for card in page.select(".cards.notebooks a.card")}
    assert list(cards) == [f"notebooks/{key}.html" for key in keys()]
    for key in keys():
        card = cards[f"notebooks/{key}.html"]
        assert card.select_one("span").get_text() == answer(key, results)
        assert all((site / image["src"]).is_file() for image in card.select("img"))
    assert len(page.select(".cards.notebooks img")) > 25
    told = [card.get_text() for card in page.select(".cards.found .card")]
    assert told == [name + text.replace("*", "") for name, text in summaries(results).items()]
    assert page.select_one("a[href='maps.html']")
    assert "VGG16 of VOC" in (site / "maps.html").read_text("utf-8")


@needs_sphinx
def test_the_copies_for_colab_differ_by_the_installing_cell_alone(site):
    for key in keys():
        ours = json.loads((ROOT / "notebooks" / f"{key}.ipynb").read_text("utf-8"))["cells"]
        first, *rest = json.loads((site / "colab" / f"{key}.ipynb").read_text("utf-8"))["cells"]
        assert "github.com/owner/repository" in "".join(first["source"])
        assert [cell["id"] for cell in rest] == [cell["id"] for cell in ours]
        assert not any(re.search(r"\bpip\b", "".join(cell["source"])) for cell in ours if cell["cell_type"] == "code")


def test_the_methods_page_has_every_method():
    page = (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert [name for name in METHODS if f"| `{name}` |" not in page] == []


def test_the_glossary_is_sorted():
    page = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^(\S[^:\n]*)\n    ", page, re.MULTILINE)
    assert len(terms) > 30
    assert terms == sorted(terms, key=str.lower)


@needs_sphinx
def test_in_a_browser_the_scoreboard_sorts_and_filters_and_a_phone_shows_no_page_wider_than_itself(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    expected = [(v.claim.paper, row) for v in committed() for row in rows(v)]
    lift = [row["N"] for paper, row in expected if paper == "lift" and "contradicted" in row["Answer"]]
    lift.sort(key=lambda n: int(n.replace(",", "")))
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        for name in ("docs/methods", "notebooks/21_fd_table1_faithfulness", "docs/api/game", "index"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 390, name
        page.get_by_label("Paper").select_option("LIFT-CAM")
        page.get_by_label("Verdict").select_option("contradicted")
        assert page.locator("output").inner_text() == f"{len(lift)} of {len(expected)} rows"
        shown = page.locator("table.scoreboard tbody tr:visible td:nth-child(7)")
        for order in (lift, lift[::-1]):
            page.get_by_role("button", name="N", exact=True).click()
            assert shown.all_inner_texts() == order
        page.get_by_label("Words").fill("no such words")
        assert shown.count() == 0
        browser.close()
    assert faults == []
