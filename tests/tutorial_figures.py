"""The key figures of the tutorials: what must be in a tutorial's variables when it has run with its solutions.

They are those that the texts tell.  Compared by ``tests/integration/test_tutorials.py`` and ``edif bench tutorials``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """An expression of the tutorial's kernel, what it must be, and by how much a number may differ."""

    expression: str
    expected: Any
    tolerance: float = 0
    long: bool = False  #: needs cells that the short run leaves out

    def fits(self, found: Any) -> bool:
        """Whether this is what the text tells."""
        if not self.tolerance:
            return bool(found == self.expected)
        pairs = zip(found, self.expected, strict=True) if isinstance(found, list) else [(found, self.expected)]
        return all(math.isfinite(one) and abs(one - other) <= self.tolerance for one, other in pairs)


def differing(name: str, value: Callable[[str], Any], *, short: bool = False) -> list[str]:
    """A sentence for each key figure of this tutorial that is another one; ``value`` asks the kernel."""
    asked = [figure for figure in FIGURES.get(name, []) if not (short and figure.long)]
    found = [(figure, value(figure.expression)) for figure in asked]
    return [
        f"{name}: {figure.expression} is {has}, not {figure.expected}" for figure, has in found if not figure.fits(has)
    ]


FIGURES: dict[str, list[Figure]] = {
    "00_hello": [
        Figure("float(logits.softmax(-1)[0, paris])", 0.656, 0.002),
        Figure("float(changed.softmax(-1)[0, rome])", 0.788, 0.002),
        Figure("[layer for layer, p, r in rows if r > p]", [4, 10, 16, 20, 22]),
        Figure("sure", 0.831, 0.002),
        Figure("[moved['Paris'], moved['Rome']]", [0.481, 0.300], 0.01),
    ],
    "01_keys": [
        Figure("outside", "0.656"),
        Figure("said[:53]", "The API key is wrong, has ended or was revoked. Get o"),
        Figure("tried", [False, True]),
    ],
    "02_gender_bias": [
        Figure("[float(value) for value in gaps.values()]", [1.12, 2.50, 2.35], 0.03),
        Figure("float(effect.sel(layer=20)[1])", 1.08, 0.03),
        Figure("float(effect.sel(layer=28)[-1])", 1.0, 0.03),
        Figure("accuracy[29] > max(control[29])", True),
        Figure("float(mean['mean'].sel(layer=24, strength=0.2))", 2.02, 0.1, long=True),
        Figure("float(abs(random.sel(layer=24)).max())", 3.12, 0.2, long=True),
        Figure("[float(other_gap), other_p]", [0.20, 0.55], 0.04),
        Figure("[*held[8], *held[24]]", [1.05, 0.01, 0.88, 0.10], 0.04),
    ],
    "03_protective_instinct": [
        Figure("[round(float(share) * 12) for share in separated]", [7, 11, 10, 12, 11, 11, 11, 10], 1),
        Figure("[float(cosine) for cosine in alike[:3]]", [0.19, 0.23, 0.30], 0.02),
        Figure("bool((transfer * 8 >= 7).all())", True),
        Figure("float(mean['mean'].sel(layer=14, strength=-0.2))", -4.30, 0.2, long=True),
        Figure("ablations[14]", 1.83, 0.15, long=True),
        Figure("ordered", 3, 1),
    ],
    "04_activation_patching": [
        Figure("float(baseline['clean'])", 6.12, 0.02),
        Figure("float(baseline['corrupt'])", -5.49, 0.02),
        Figure("largest_control", 0.24, 0.1),
        Figure("float(mean['mean'].sel(layer=20)[9])", 0.47, 0.03),
        Figure("float(mean['mean'].sel(layer=24)[-1])", 0.90, 0.03),
        Figure("ranked[0][1:]", [23, 3]),
        Figure("ranked[0][0]", 0.552, 0.02),
        Figure("agreement['head'][0]", 0.99, 0.02),
        Figure("agreement['residual'][0]", 0.76, 0.06),
        Figure("[at_name, at_last]", [1.00, 0.90], 0.03),
        Figure("[shares[0], max(shares[1:])]", [0.97, 0.00], 0.03),
    ],
    "05_causal_tracing": [
        Figure("len(known)", 8),
        Figure("float(eiffel.data['clean'][0])", 0.656, 0.002),
        Figure("float(eiffel.total_effect()[0])", 0.62, 0.03),
        Figure("float(eiffel.indirect_effect()[0].sel(layer=5)[2])", 0.545, 0.05),
        Figure("float(total.mean())", 0.633, 0.03, long=True),
        Figure("by_window[1] < 0.1 < 0.5 < by_window[10]", True, long=True),
        Figure("same", 0.88, 0.06, long=True),
        Figure("harm", [0.595, 0.602], 0.04),
    ],
    "06_logit_lens": [
        Figure("int(data['target_rank'].sel(layer=23)[0])", 778, 80),
        Figure("float(data['kl'].sel(layer=15))", 40.11, 0.3),
        Figure("mean_depth", 28.6, 0.3),
        Figure("[far[14][name] for name in ('plain', 'shifted', 'tuned')]", [16.82, 5.21, 3.99], 0.5, long=True),
        Figure("best", 24),
        Figure("surprise[' Tower']", 0.08, 0.02),
    ],
    "07_model_comparison": [
        Figure("[len(tokens) for tokens in pieces.values()]", [10, 9]),
        Figure("[float(value) for value in curves[FIRST].mean(0)]", [14.15, 16.64, 17.51, 14.03, 0], 0.2),
        Figure("[float(value) for value in curves[SECOND].mean(0)]", [0.61, 0.46, 0.28, 0.12, 0], 0.02),
        Figure("float(agreed['mean'][-1])", 4.27, 0.1),
        Figure("float(abs(control['mean']).max()) < 1e-4", True),
        Figure("differences[FIRST]", [6.12, 6.47], 0.03),
        Figure("differences[SECOND]", [1.91, -2.16], 0.03),
        Figure("shares[FIRST][0]", 0.982, 0.01),
        Figure("shares[SECOND][0]", 0.408, 0.01),
    ],
    "08_quantization_and_sharding": [
        Figure("[divergence[8], divergence[6], divergence[4]]", [0.0040, 0.0587, 1.319], 0.02),
        Figure("[fidelity[8], fidelity[6], fidelity[4]]", [1.0, 0.9995, 0.992], 0.005, long=True),
        Figure("[blame['first third'], blame['last third']]", [0.53, 0.39], 0.03, long=True),
    ],
    "09_big_results": [
        Figure("sizes['all states']", 9_132_460, 5_000),
        Figure("sizes['all states and logits'] > 3 * sizes['all states']", True),
        Figure("sizes['states at the last position'] < 200_000", True),
        Figure("all(abs(a - b) < 1e-5 for a, b in zip(single, together))", True),
        Figure("float(alike)", 0.991, 0.005),
        Figure("tuple(found['state'].shape)", [576]),
        Figure("nearest", "London"),
    ],
    "10_teach": [
        Figure("[person.account for person in roster.entries]", ["ada", "emmy", "kurt"]),
        Figure("list(grades.values())", [3, 0, 3, 0]),
        Figure("used > 0", True),
        Figure("mended.problems", []),
        Figure("noticed", [4, 3]),
    ],
}
