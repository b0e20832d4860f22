"""Links, anchors and file names of every page lead somewhere, and every page is in an index."""

import re

import pytest

from tests.docs.pages import CARDS, PAGES, ROOT, anchors, links, name, prose

FILES = [
    path
    for folder in ("experiments", "algos", "envs", "purejaxrl", "tests")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("page", PAGES + CARDS, ids=name)
def test_relative_links_resolve(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES + CARDS, ids=name)
def test_python_files_that_are_named_exist(page):
    named = set(re.findall(r"`([\w/]+\.py)`", prose(page)))
    assert not [file for file in named if not any(str(path).endswith(f"/{file}") for path in FILES)]


def test_the_index_and_the_front_page_of_results_name_every_page():
    for folder in (ROOT / "docs", ROOT / "docs/results"):
        index = folder / "README.md"
        linked = {(folder / link.partition("#")[0]).resolve() for link in links(index)}
        missing = {page for page in folder.glob("*.md") if page != index} - linked
        assert not missing


def test_every_picture_and_table_of_the_results_is_linked():
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)
    }
    data = [path for path in (ROOT / "docs/results").iterdir() if path.suffix in (".png", ".csv")]
    assert data and not set(data) - linked
