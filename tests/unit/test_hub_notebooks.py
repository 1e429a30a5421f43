"""The shipped notebooks: text, notebook and translation say the same; outputs are real, small and from no machine.

Also what a reader relies on: headings in order, a prediction before results, solutions that unfold, sources.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from edif.prediction import RESULT_TYPE
from edif_hub.shipped import package_folder, tutorials_folder
from tests import tutorial_files as files
from tests import tutorial_told as told

NAMES = files.names()
STUDIES = [name for name in NAMES if name[0].isdigit()]
SHIPPED = sorted(tutorials_folder().glob("*.ipynb"))
TRANSLATED = [(name, language) for name in NAMES for language in files.LANGUAGES if files.catalogue(name, language)]
#: What one notebook may take in the repository and in a home.
MOST_BYTES = 400_000


def markdown(name: str) -> list[str]:
    return [cell.source for cell in files.assembled(name).cells if cell.cell_type == "markdown"]


def shipped_text(path: files.Path) -> str:
    notebook = files.nbformat.read(path, as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_there_are_notebooks_and_packages_beside_the_hub() -> None:
    assert STUDIES[0] == "00_hello"
    assert (package_folder("edif_kernel") / "jupyter" / "kernels" / "edif" / "kernel.json").is_file()
    with pytest.raises(ModuleNotFoundError, match=r"\./edif up"):
        package_folder("edif_nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_text_and_notebook_say_the_same(name: str) -> None:
    text, notebook = files.assembled(name), files.saved(name)
    assert [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells] == [
        (cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in text.cells
    ], f"./edif bench tutorials -- --write {name} (or --texts, where only Markdown has changed)"
    assert notebook.metadata.kernelspec.name == "edif"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_outputs_are_small_whole_and_from_no_particular_machine(path: files.Path) -> None:
    notebook = files.nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in code) or not code
    assert all(cell.execution_count for cell in code), "a cell was not run: ./edif bench tutorials -- --write"
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(r"/(home|root|work|tmp|usr)/|127\.0\.0\.1|localhost", path.read_text(encoding="utf-8"))
    for cell in code:
        for output in cell.outputs:
            result = output.get("data", {}).get(RESULT_TYPE)
            if result is not None:
                assert json.loads(json.dumps(result, allow_nan=False))["kind"]
                assert output.data["text/plain"], "readers without the front end need a text"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_what_a_reader_relies_on(name: str) -> None:
    texts = markdown(name)
    opening = "\n".join(texts[:2])
    assert "**Goal.**" in opening
    assert "**Time.**" in opening
    whole = "\n".join(texts)
    assert whole.count("What do you expect?") >= 1
    assert "Exercise 1" in whole
    assert sum(len(files.solutions(text)) for text in texts) >= 1
    assert "Sources" in whole or name == "00_hello"
    assert "@" not in re.sub(r"`[^`]*`|```.*?```", "", whole, flags=re.DOTALL), "a figure was left out"


@pytest.mark.parametrize("name", STUDIES)
def test_what_a_text_tells_stands_in_the_outputs_above_it(name: str) -> None:
    assert told.unfounded(files.saved(name)) == []


def test_a_number_that_no_output_has_is_found() -> None:
    fold = "<details>\n\nExpected: 0.12.\n\n</details>"
    text = f"On the demo model 0.66, and the rank of Paris is 1,234.\n\nAlone 0.99.\n\n{fold}"
    cells = [new_code_cell("x", outputs=[new_output("stream", text="p 0.6561, rank 1,234")]), new_markdown_cell(text)]
    assert told.unfounded(new_notebook(cells=cells)) == []
    cells[0].outputs[0].text = "p 0.6661, rank 1,235"
    assert [word.split()[0] for word in told.unfounded(new_notebook(cells=cells))] == ["0.66", "1,234"]


def test_a_run_that_prints_something_else_is_found() -> None:
    def run(text: str, tags: tuple[str, ...] = ()) -> files.NotebookNode:
        cell = new_code_cell("x", outputs=[new_output("stream", text=text)], metadata={"tags": list(tags)})
        return new_notebook(cells=[cell], metadata={"kernelspec": {"name": "edif", "display_name": "eDIF"}})

    shipped = run("Paris  +0.656 in 7 of 12, 1,000 bytes\n")
    assert told.strayed(run("Paris +0.657 in 7 of 12, 1,003 bytes"), shipped) == []
    for other in (
        "Rome +0.656 in 7 of 12, 1,000 bytes",
        "Paris +0.656 in 8 of 12, 1,000 bytes",
        "Paris -0.656 in 7 of 12, 1,000",
        "",
    ):
        assert told.strayed(run(other), shipped), other
    assert told.strayed(run("Rome", (told.VARIES,)), shipped) == []
    with_job = run("Paris +0.656 in 7 of 12, 1,000 bytes")
    with_job.cells[0].outputs.append(
        new_output("display_data", {RESULT_TYPE: {"kind": "job", "log": ["x"]}, "text/plain": "Completed after 0.5 s"})
    )
    assert told.strayed(with_job, shipped) == []
    assert told.strayed(new_notebook(metadata=shipped.metadata), shipped) == []  # a cell that was left out


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_headings_go_down_by_one_and_pictures_have_words(path: files.Path) -> None:
    text = re.sub(r"^```.*?^```", "", shipped_text(path), flags=re.DOTALL | re.MULTILINE)
    levels = [len(found) for found in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")", text)
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_links_lead_to_notebooks_that_are_shipped_in_the_readers_language(path: files.Path) -> None:
    linked = set(re.findall(r"\]\(([\w.]+\.ipynb)\)", shipped_text(path)))
    shipped = {other.name for other in SHIPPED}
    assert not linked - shipped
    language = path.suffixes[0].removesuffix(".ipynb")
    assert not {name for name in linked if f"{name.removesuffix('.ipynb')}{language}.ipynb" in shipped - {name}}


def test_what_takes_long_is_left_out_and_solutions_go_with_their_text() -> None:
    text = new_markdown_cell("<details>\n\n```python\nprint(1)\n```\n\n</details>", metadata={"tags": [files.LONG]})
    cells = [new_code_cell("a"), text, new_code_cell("b", metadata={"tags": [files.LONG]}), new_code_cell("c")]
    whole = files.with_solutions(new_notebook(cells=cells))
    assert [cell.source for cell in files.shortened(whole).cells] == ["a", "c"]
    for number, cell in enumerate(code for code in whole.cells if code.cell_type == "code"):
        cell.execution_count = number + 1
    kept = files.without_solutions(whole).cells
    assert [(cell.source, cell.get("execution_count")) for cell in kept if cell is not kept[1]] == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]


def test_the_line_of_a_job_is_kept_for_what_it_has_printed_alone() -> None:
    def output(log: list[str]) -> files.NotebookNode:
        return new_output("display_data", {RESULT_TYPE: {"kind": "job", "log": log}, "text/plain": "Done."})

    cell = new_code_cell("x", outputs=[output([]), output(["printed"])])
    notebook = new_notebook(cells=[cell], metadata={"kernelspec": {"name": "edif", "display_name": "eDIF"}})
    (kept,) = files.tidied(notebook).cells[0].outputs
    assert kept.data[RESULT_TYPE]["log"] == ["printed"]


# -- translations -------------------------------------------------------------


@pytest.mark.parametrize("language", files.LANGUAGES)
def test_every_tutorial_is_there_in_each_language(language: str) -> None:
    assert [name for name in NAMES if (name, language) not in TRANSLATED] == []


@pytest.mark.parametrize(("name", "language"), TRANSLATED)
def test_a_translation_is_whole_fresh_and_shares_the_code(name: str, language: str) -> None:
    english, known = files.saved(name), files.catalogue(name, language)
    assert known
    missing, left = files.stale(english, known)
    assert (missing, left) == ([], []), f"notebooks/{name}.{language}.md: cells without text, texts without cell"
    shipped = files.saved(name, language)
    assert shipped == files.translated(english, known), f"./edif bench tutorials -- --texts {name}"
    for one, other in zip(english.cells, shipped.cells, strict=True):
        if one.cell_type == "code":
            assert one == other
        else:
            assert files.solutions(one.source) == files.solutions(other.source)
            assert one.source != other.source
            assert told.figures_in(one.source) == told.figures_in(other.source)


def test_a_changed_english_cell_makes_its_translation_stale() -> None:
    notebook = new_notebook(cells=[new_markdown_cell("Hello"), new_markdown_cell("Bye")])
    known = {files.digest("Hello"): "Hallo", files.digest("Bye"): "Tschüs"}
    assert files.stale(notebook, known) == ([], [])
    assert [cell.source for cell in files.translated(notebook, known).cells] == ["Hallo", "Tschüs"]
    notebook.cells[0].source = "Hello, world"
    assert files.stale(notebook, known) == ([files.digest("Hello, world")], [files.digest("Hello")])
    assert files.translated(notebook, known).cells[0].source == "Hello, world"


def test_code_in_a_translated_text_is_that_of_the_english_one() -> None:
    text = "<details><summary>Solution</summary>\n\n```python\nprint(1)\n```\n\n</details>"
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    german = "<details><summary>Lösung</summary>\n\n```python\n…\n```\n\n</details>"
    made = files.translated(notebook, {files.digest(text): german}).cells[0].source
    assert made == german.replace("…", "print(1)")
    assert files.solutions(made) == ["print(1)\n"]
    assert [cell.source for cell in files.with_solutions(notebook).cells] == [text, "print(1)\n"]


@pytest.mark.parametrize("source", ["glossary.py", *(f"glossary.{language}.md" for language in files.LANGUAGES)])
def test_the_glossary_is_in_the_order_of_the_alphabet(source: str) -> None:
    words = re.findall(r"^(?:# )?\*\*(.+?)\*\*", (files.FOLDER / source).read_text(encoding="utf-8"), re.MULTILINE)
    plain = [
        re.sub(r"[^a-z0-9]+", " ", word.casefold().translate(str.maketrans("äöü", "aou"))).strip() for word in words
    ]
    assert len(plain) > 40
    assert plain == sorted(plain)
