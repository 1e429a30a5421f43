"""The catalogue of models: what ``models.toml`` may say, and what people are told when a name is not in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edif_backend.errors import CatalogueInvalid, ModelUnknown
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, Catalogue, ModelEntry, Replicas, write_default

MINIMAL = '[models."owner/name"]\ntitle = "A model"\nsource = "hub"\n'


def load(folder: Path, text: str) -> Catalogue:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return Catalogue.load(path)


def test_the_default_catalogue_has_the_demo_pinned_and_the_tiny_model_for_tests(tmp_path: Path) -> None:
    write_default(tmp_path / "new" / "models.toml")
    catalogue = Catalogue.load(tmp_path / "new" / "models.toml")
    assert [(entry.id, entry.pinned, entry.purpose) for entry in catalogue.entries] == [
        (DEMO_ID, True, "research"),
        (TINY_ID, False, "test"),
    ]


def test_writing_the_default_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(MINIMAL)
    write_default(tmp_path / "models.toml")
    assert (tmp_path / "models.toml").read_text() == MINIMAL


def test_an_entry_needs_little_and_has_defaults(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, MINIMAL).entries
    assert (entry.repo, entry.revision, entry.dtype, entry.replicas) == ("owner/name", "main", "float32", Replicas())


@pytest.mark.parametrize("spelling", [DEMO_ID, DEMO_ID.upper(), "eDIF/SmolLM2-135M-Demo"])
def test_names_are_found_in_any_case_as_on_the_hub(tmp_path: Path, spelling: str) -> None:
    write_default(tmp_path / "models.toml")
    assert Catalogue.load(tmp_path / "models.toml").find(spelling, None).id == DEMO_ID


def test_an_unknown_name_is_answered_with_near_ones_and_the_list(tmp_path: Path) -> None:
    write_default(tmp_path / "models.toml")
    catalogue = Catalogue.load(tmp_path / "models.toml")
    with pytest.raises(ModelUnknown) as failure:
        catalogue.find("edif/smolm2-135m-demo")
    assert f"Did you mean {DEMO_ID}" in str(failure.value)
    assert TINY_ID in str(failure.value)
    with pytest.raises(ModelUnknown, match=f"Did you mean {TINY_ID}"):
        catalogue.find("tiny-gpt2")
    with pytest.raises(ModelUnknown) as failure:
        catalogue.find("zzz\r\nX-Header: 1 ü")
    assert "Did you mean" not in str(failure.value)
    assert str(failure.value).isprintable()
    assert str(failure.value).isascii()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("2", (2, 2)), ("{min = 1, max = 3}", (1, 3)), ("{min = 2}", (2, 2)), ("{max = 4}", (1, 4))],
)
def test_replicas_are_a_number_or_limits(tmp_path: Path, said: str, meant: tuple[int, int]) -> None:
    (entry,) = load(tmp_path, MINIMAL + f"replicas = {said}\n").entries
    assert (entry.replicas.min, entry.replicas.max) == meant
    assert ModelEntry.model_validate(entry.model_dump(mode="json")) == entry


def test_a_model_for_some_groups_is_open_to_their_members_and_named_to_nobody(tmp_path: Path) -> None:
    catalogue = load(tmp_path, MINIMAL + 'groups = ["lab", "course"]\n')
    (entry,) = catalogue.entries
    assert entry.open_to({"course", "other"})
    assert not entry.open_to({"other"})
    assert not entry.open_to(set())
    with pytest.raises(ModelUnknown, match=r"not served here\. Models served here: none"):
        catalogue.find("owner/nam")


def test_a_model_is_found_at_its_own_revision_at_main_and_at_none(tmp_path: Path) -> None:
    catalogue = load(tmp_path, MINIMAL + 'revision = "v1"\n')
    for revision in (None, "main", "v1"):
        assert catalogue.find("owner/name", revision).revision == "v1"
    with pytest.raises(ModelUnknown, match='served here at revision v1 only, not at "v2"'):
        catalogue.find("owner/name", "v2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[models", "not valid TOML"),
        ("[model.x]\n", '"model" is not known at the top'),
        ("models = 3\n", "must be tables"),
        ('models.x = "y"\n', "must be a table of keys"),
        ('[models."owner/name"]\nsource = "hub"\n', 'key "title" is missing'),
        ('[models."owner/name"]\ntitle = "t"\n', 'key "source" is missing. Allowed: demo, tiny, tiny-lora, hub'),
        (
            MINIMAL + 'dtype = "float31"\n',
            "key \"dtype\" is 'float31'; allowed: float32, bfloat16, float16, int8, nf4, fp4",
        ),
        (MINIMAL + "replica = 2\n", 'key "replica" is not known; did you mean "replicas"?'),
        (MINIMAL + "replicas = 0\n", 'key "replicas" is 0; allowed: greater than or equal to 1'),
        (MINIMAL + "replicas = {min = 3, max = 2}\n", "with max no less than min"),
        (MINIMAL + "replicas = {least = 3}\n", 'key "replicas.least" is not known'),
        (MINIMAL + "replicas = true\n", 'key "replicas" is True'),
        (MINIMAL + 'pinned = "perhaps"\n', "key \"pinned\" is 'perhaps'; allowed: a valid boolean"),
        (MINIMAL + 'id = "x"\n', 'key "id" is not allowed'),
        (MINIMAL + 'revision = "../x"\n', "allowed: a branch, a tag or a commit"),
        ('[models."../../etc"]\ntitle = "t"\nsource = "hub"\n', "a name as on the Hugging Face Hub"),
        ('[models."a/b"]\ntitle = "t"\nsource = "demo"\nrevision = "v1"\n', 'go with source = "hub" only'),
        (MINIMAL + MINIMAL.replace("owner", "Owner"), "the same name as owner/name"),
    ],
)
def test_a_mistake_is_told_with_file_table_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CatalogueInvalid) as failure:
        load(tmp_path, text)
    assert told in str(failure.value)
    assert "models.toml" in str(failure.value)


def test_a_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="There is no catalogue"):
        Catalogue.load(tmp_path / "models.toml")
