"""The README says what the product is: where it can be generated, it is."""

from pathlib import Path

from dataflow import reference

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_configuration_table_is_that_of_the_variables() -> None:
    assert reference.markdown().strip() in README


def test_every_document_it_links_to_exists() -> None:
    for part in README.split("](")[1:]:
        target = part.partition(")")[0].partition("#")[0]
        if not target.startswith("http"):
            assert (Path(__file__).parents[1] / target).exists(), target
