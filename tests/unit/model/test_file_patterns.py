"""Patterns of paths in a container, and names that a file may have outside of it."""

from __future__ import annotations

import time

import pytest

from jaas_submit.model.files.patterns import Pattern, name_problem


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("/out/*.pdf", "out/a.pdf", True),
        ("/out/*.pdf", "out/a.txt", False),
        ("/out/*.pdf", "out/sub/a.pdf", False),
        ("/out/*.pdf", "other/a.pdf", False),
        ("/out/*.pdf", "out", False),
        ("/out", "out/sub/a.pdf", True),
        ("/out/", "out/a", True),
        ("/out", "outer/a", False),
        ("/out/sub*", "out/sub1/deep/a", True),
        ("/out/**", "out/a/b/c", True),
        ("/out/**/*.pdf", "out/a.pdf", True),
        ("/out/**/*.pdf", "out/a/b/c.pdf", True),
        ("/out/**/*.pdf", "out/a/b/c.txt", False),
        ("/out/**/x/**/y", "out/1/x/2/3/y", True),
        ("/out/**/x/**/y", "out/1/y", False),
        ("/out/[ab]?.txt", "out/a1.txt", True),
        ("/out/[!ab]?.txt", "out/a1.txt", False),
        ("/out/a.b", "out/aXb", False),
        ("/out/(a)+", "out/(a)+", True),
    ],
)
def test_a_pattern_matches_paths_part_by_part(pattern: str, name: str, matches: bool) -> None:
    assert Pattern(pattern).matches(name) is matches


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("/out/*.pdf", "/out"), ("/out/a.pdf", "/out/a.pdf"), ("/a/b/**/c", "/a/b"), ("/out/", "/out")],
)
def test_the_folder_is_the_part_that_all_matches_share(pattern: str, folder: str) -> None:
    assert Pattern(pattern).folder == folder


@pytest.mark.parametrize(
    "pattern", ["", "/", "out/a", "/*.pdf", "/**", "/a//b", "/a/../b", "/a/./b", "/a\n", "/" + "a" * 1024]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Pattern(pattern)


def test_a_pattern_of_many_stars_takes_no_longer_than_it_has_letters() -> None:
    pattern = Pattern("/out/" + "*a" * 400 + "/**" * 50 + "/b")
    begin = time.process_time()
    assert not pattern.matches("out/" + "a" * 255 + "/a" * 300)
    assert time.process_time() - begin < 5, "it would take for ever"


@pytest.mark.parametrize("name", ["a", "out/a b.pdf", "out/ä", "out/.hidden", "..a", "a" * 255])
def test_plain_names_are_fine(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    "name", ["", "..", "a/../b", "/a", "a//b", "a/", "./a", "a\nb", "a\x00", "\udcff", "a" * 256, "a/" * 600 + "a"]
)
def test_names_that_would_lead_elsewhere_or_cannot_be_written_are_not(name: str) -> None:
    assert name_problem(name)
