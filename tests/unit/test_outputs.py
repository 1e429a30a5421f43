"""What a notebook keeps of a result: small, rounded, honest about what it leaves out, readable without a front end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from edif.causal_trace import CausalTrace
from edif.logit_lens import LogitLens
from edif.outputs import OutputTooLarge, Vocabulary, every, figures, fitting, table
from edif.patching import ActivationPatching
from edif.prediction import RESULT_TYPE
from edif.result import Result

WORDS = np.array(["The", " city", " <b>", "\n"])


def a_lens(layers: int = 4, lengths: tuple[int, ...] = (3, 2), top: int = 10, targets: int = 1) -> LogitLens:
    """A lens of random figures: prompts of these lengths, tokens 0 to 3."""
    chance, longest = np.random.default_rng(0), max(lengths)
    shape = (len(lengths), layers, longest)
    places = np.array([[*range(length), *[-1] * (longest - length)] for length in lengths])
    beyond = (places < 0)[:, None, :]
    tokens = np.where(places < 0, -1, places % 4)
    top_ids = np.where(beyond[..., None], -1, chance.integers(0, 4, (*shape, top)))

    def some(*more: int) -> Any:
        mask = beyond.reshape(*beyond.shape, *[1] * len(more))
        return np.where(mask, np.nan, chance.random((*shape, *more)))

    axes = ("prompt", "layer", "position")
    arrays = {
        "top_id": ((*axes, "top"), top_ids),
        "top_token": ((*axes, "top"), np.where(top_ids < 0, "", WORDS[top_ids])),
        "top_probability": ((*axes, "top"), some(top)),
        **{name: (axes, some()) for name in ("entropy", "kl", "next_log_probability")},
        **{f"target_{name}": ((*axes, "target"), some(targets)) for name in ("probability", "rank", "logit")},
    }
    coordinates = {
        "layer": list(range(layers)),
        "place": (("prompt", "position"), places),
        "token_id": (("prompt", "position"), tokens),
        "token": (("prompt", "position"), np.where(tokens < 0, "", WORDS[tokens])),
        "target_id": ("target", np.arange(targets)),
        "target_token": ("target", WORDS[:targets]),
    }
    known = {
        "model": "edif/demo",
        "dtype": "float32",
        "prompts": ["<script>"] * len(lengths),
        "bos": [False] * len(lengths),
        "site": "residual",
        "tuned": False,
        "layer_count": layers,
        "server_seconds": 0.25,
    }
    return LogitLens(xr.Dataset(arrays, coordinates), known, {"pins": [2]})


class TestLens:
    def test_holds_each_prompt_without_the_positions_of_longer_ones(self) -> None:
        found = a_lens()
        drawn = found.as_json()
        assert (drawn["version"], drawn["kind"], drawn["layers"]) == (1, "logit_lens", [0, 1, 2, 3])
        assert drawn["final"] is True
        assert drawn["view"] == {"pins": [2]}
        assert drawn["foot"] == "0.2 s beside the weights"
        short = drawn["prompts"][1]
        assert (len(short["tokens"]), len(short["top"]), len(short["entropy"])) == (2, 4 * 2 * 10, 4 * 2)
        words = drawn["vocabulary"]
        assert [words["texts"][place] for place in short["tokens"]] == ["The", " city"]
        whole = found.data["top_probability"].values[1, 2, 1]
        np.testing.assert_allclose(short["probability"][(2 * 2 + 1) * 10 :][:10], whole, rtol=5e-3)
        assert [words["ids"][place] for place in short["top"][50:60]] == found.data["top_id"].values[1, 2, 1].tolist()

    def test_knows_where_the_last_layer_is_missing(self) -> None:
        found = a_lens()
        found.provenance["layer_count"] = 5
        assert found.as_json()["final"] is False

    def test_gives_up_tokens_then_prompts_then_layers_and_says_so(self) -> None:
        found = a_lens(layers=40, lengths=(12, 12))
        whole = len(json.dumps(found.as_json()))
        said, sizes = [], []
        for part in (2, 4, 12, 60):
            drawn = found.as_json(whole // part)
            assert len(json.dumps(drawn, separators=(",", ":"))) <= whole // part
            assert drawn["layers"][-1] == 39
            assert drawn["reduced"]  # so the view offers a file with all of it
            said.append(drawn["foot"].partition("notebook: ")[2])
            sizes.append((drawn["top"], len(drawn["prompts"]), len(drawn["layers"])))
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0][1:] == (2, 40)
        assert said[0] == f"{sizes[0][0]} of 10 tokens a cell; all is in .data"
        assert said[-1].startswith("1 of 10 tokens a cell, every ")
        assert "1 of 2 prompts" in said[-1]
        assert found.data.sizes["top"] == 10
        assert "reduced" not in found.as_json()

    def test_a_deep_model_and_a_long_prompt_fit_an_output(self) -> None:
        drawn = a_lens(layers=126, lengths=(50,)).as_json()
        assert len(json.dumps(drawn, separators=(",", ":"), ensure_ascii=False)) <= 1_000_000
        assert len(drawn["layers"]) == 126

    def test_what_fits_nowhere_is_said_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = a_lens()
        with pytest.raises(OutputTooLarge, match=r"too large to be drawn .* fewer prompts or layers"):
            found.as_json(100)
        monkeypatch.setattr(LogitLens, "as_json", lambda self: fitting([{"x": "y" * 200}], 100))
        bundle = found._repr_mimebundle_()
        assert RESULT_TYPE not in bundle
        assert "too large to be drawn" in bundle["text/html"]

    def test_is_a_plain_table_for_everybody_else(self) -> None:
        bundle = a_lens()._repr_mimebundle_()
        assert bundle["text/plain"] == "<logit lens: 2 prompts, 4 layers, 3 positions>"
        html = bundle["text/html"]
        assert "<script>" not in html
        assert "“&lt;script&gt;”" in html
        assert html.count("<th scope='row'>") == 4
        assert html.index("<th scope='row'>3<") < html.index("<th scope='row'>0<")
        assert "␣city" in html


def a_patching(pairs: int = 2, layers: int = 3, heads: int = 2) -> ActivationPatching:
    """Effects at two sites; the second metric of every pair hardly differs; the first position was never patched."""
    ways, metrics, length = ["denoise", "noise"], ["logit_difference", "probability"], 3
    shape = (pairs, 2, 2, layers, length)
    residual = np.random.default_rng(0).random(shape)
    residual[..., 0] = np.nan
    axes = ("pair", "direction", "metric", "layer", "position")
    base = np.broadcast_to(np.array([2.0, 0.5]), (pairs, 2, 2))
    tokens = np.broadcast_to(np.array([[0, 1, 2], [0, 3, 2]]), (pairs, 2, 3))
    data = xr.Dataset(
        {
            "residual": (axes, residual),
            "head": ((*axes, "head"), np.full((*shape, heads), 0.25)),
            "clean": (axes[:3], base),
            "corrupt": (axes[:3], base - np.array([3.0, 0.0])),
        },
        {
            "direction": ways,
            "metric": metrics,
            "layer": list(range(layers)),
            "token_id": (("pair", "direction", "position"), tokens),
            "token": (("pair", "direction", "position"), WORDS[tokens]),
        },
    )
    fact = {
        "clean": "<script>",
        "corrupt": "<b>",
        "clean_ids": [0, 3, 2],
        "corrupt_ids": [0, 1, 2],
        "answer": [1, 3],
        "answer_tokens": [" city", "\n"],
        "aligned": [[1, 1], [2, 2]],
        "bos": False,
    }
    known = {"model": "edif/demo", "dtype": "float32", "pairs": [fact] * pairs, "server_seconds": 0.0}
    return ActivationPatching(data, known)


class TestPatching:
    def test_holds_the_metrics_themselves_and_says_where_no_effect_is_defined(self) -> None:
        drawn = a_patching(pairs=1).as_json()
        assert drawn["foot"] == "one pair: no interval"
        assert drawn["mean"] is None
        assert drawn["sites"] == [
            {"name": "head", "part": "head", "parts": 2},
            {"name": "residual", "part": None, "parts": 1},
        ]
        run = drawn["pairs"][0]["runs"][0]
        assert (run["clean"], run["corrupt"], run["defined"]) == ([2.0, 0.5], [-1.0, 0.5], [True, False])
        assert (run["aligned"], run["differs"]) == ([1, 2], [1])
        assert len(run["values"]["residual"]) == 2 * 3 * 3
        assert len(run["values"]["head"]) == 2 * 3 * 3 * 2
        assert run["values"]["residual"][0] is None

    def test_means_over_pairs_are_those_of_the_result(self) -> None:
        found = a_patching(pairs=4)
        drawn = found.as_json()
        for way, run in zip(drawn["directions"], drawn["mean"], strict=True):
            mean = found.mean("residual", direction=way)
            for name in ("mean", "low", "high"):
                shown = np.array(run[name]["residual"][:9], dtype=float).reshape(3, 3)
                np.testing.assert_allclose(shown, mean[name].values, rtol=1e-3)

    def test_gives_up_pairs_then_metrics_then_layers_and_says_so(self) -> None:
        found = a_patching(pairs=8, layers=40)
        whole = len(json.dumps(found.as_json()))
        sizes = []
        for part in (2, 8, 30):
            drawn = found.as_json(whole // part)
            sizes.append((len(drawn["pairs"]), len(drawn["metrics"]), len(drawn["layers"])))
            assert drawn["layers"][-1] == 39
            assert f"{sizes[-1][0]} of 8 pairs" in drawn["foot"]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1][:2] == (1, 1)
        assert sizes[-1][2] < 40

    def test_is_a_plain_table_for_everybody_else(self) -> None:
        html = a_patching().table()
        assert "<script>" not in html
        assert "&lt;script&gt;" in html
        assert "strongest head" in html
        assert html.count(">0.417<") == 9  # (0.25 + 1) / 3


class TestTrace:
    def trace(self, facts: int) -> CausalTrace:
        restored = np.random.default_rng(0).random((facts, 2, 4, 3, 5))
        tokens = np.broadcast_to(np.array([0, 1, 2]), (facts, 3))
        classes = np.broadcast_to(np.array(["first subject", "last subject", "last"]), (facts, 3))
        data = xr.Dataset(
            {
                "restored": (("fact", "kind", "layer", "position", "sample"), restored),
                "corrupted": (("fact", "sample"), np.full((facts, 5), 0.125)),
                "clean": ("fact", np.full(facts, 0.75)),
            },
            {
                "kind": ["state", "mlp"],
                "layer": [0, 1, 2, 3],
                "token_id": (("fact", "position"), tokens),
                "token": (("fact", "position"), WORDS[tokens]),
                "token_class": (("fact", "position"), classes),
                "answer_id": ("fact", np.full(facts, 3)),
                "answer_token": ("fact", np.full(facts, "\n")),
            },
        )
        fact = {"prompt": "<b>", "prompt_ids": [0, 1, 2], "subject": [0, 2], "corrupt": None, "bos": True}
        known = {"model": "m", "dtype": "float32", "facts": [fact] * facts, "window": 10, "samples": 5, "level": 0.25}
        return CausalTrace(data, known)

    def test_holds_effects_and_their_spread(self) -> None:
        found = self.trace(1)
        drawn = found.as_json()
        assert drawn["foot"] == "5 samples of noise, standard deviation 0.25 · one fact: no interval"
        fact = drawn["facts"][0]
        assert (fact["clean"], fact["corrupted"], fact["subject"]) == (0.75, 0.125, [0, 2])
        for kind, name in enumerate(("state", "mlp")):
            shown = np.array(fact["effect"]).reshape(2, 4, 3)[kind]
            np.testing.assert_allclose(shown, found.indirect_effect(name).values[0], rtol=1e-3)
            shown = np.array(fact["spread"]).reshape(2, 4, 3)[kind]
            np.testing.assert_allclose(shown, found.spread(name).values[0], rtol=1e-3)
        assert drawn["average"] is None

    def test_averages_are_those_of_the_result(self) -> None:
        found = self.trace(3)
        average = found.as_json()["average"]
        shown = np.array(average["low"], dtype=float).reshape(2, 4, len(average["classes"]))[1]
        np.testing.assert_allclose(shown, found.average("mlp")["low"].values.T, rtol=1e-3)
        assert average["facts"] == found.average()["facts"].values.tolist()

    def test_gives_up_facts_then_layers_and_says_so(self) -> None:
        found = self.trace(6)
        drawn = found.as_json(2200)
        assert len(drawn["facts"]) == 1
        assert drawn["layers"][-1] == 3
        assert "1 of 6 facts" in drawn["foot"]

    def test_is_a_plain_table_for_everybody_else(self) -> None:
        html = self.trace(1).table()
        assert "“&lt;b&gt;”" in html
        assert html.count("<th scope='row'>") == 4


def test_a_kept_result_is_read_before_its_method_was_used(tmp_path: Path) -> None:
    kept = a_lens().save(tmp_path / "lens.edif")
    code = f"import edif; print(edif.load({str(kept)!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "<logit lens: 2 prompts, 4 layers, 3 positions>\n"


def test_a_kind_without_a_view_is_shown_as_text() -> None:
    class Odd(Result):
        kind = "odd"

        def __repr__(self) -> str:
            return "<odd>"

    found = Odd(xr.Dataset({"head": ("layer", np.zeros(2))}), {})
    bundle = found._repr_mimebundle_()
    assert RESULT_TYPE not in bundle
    assert bundle["text/html"] == "<pre>&lt;odd&gt;</pre>"
    with pytest.raises(NotImplementedError, match="no view of odd yet"):
        found.as_json()


def test_figures_keep_digits_and_know_what_is_no_number() -> None:
    assert figures([[0.123456, 1e-7], [np.nan, np.inf]], 3) == [0.123, 1e-07, None, None]


def test_vocabulary_writes_each_token_once() -> None:
    words = Vocabulary()
    assert words.places([[7, -1], [9, 7]], [["a", ""], ["b", "a"]]) == [0, None, 1, 0]
    assert words.as_json() == {"ids": [7, 9], "texts": ["a", "b"]}


def test_a_stride_keeps_the_last() -> None:
    assert every(10, 4) == [1, 5, 9]
    assert every(1, 4) == [0]


def test_a_long_table_leaves_layers_out_and_says_so() -> None:
    html = table("t", list(range(100)), ["x"] * 50, [["1"] * 50] * 100, "foot")
    assert html.count("<th scope='row'>") == 25
    assert "75 layers left out" in html
