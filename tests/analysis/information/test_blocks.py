"""Disentanglement and modularity: 1 for blocks of one kind each, 0 where everything is everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_lightning.analysis.information.blocks import dci
from disentangle_lightning.analysis.information.factors import Factor, letter_factors, text_factors
from disentangle_lightning.analysis.information.modularity import modularity
from disentangle_lightning.analysis.information.readers import Floats

UTTERANCES = 600

Sides = tuple[Floats, Floats]


@pytest.fixture(scope="module")
def factors() -> list[Factor]:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(count, size=(2, UTTERANCES)) for count in (2, 2, 4, 3)]
    names = [("letter A", "text"), ("letter B", "text"), ("speaker", "label"), ("style", "label")]
    return [
        Factor(name, kind, *classes, int(classes.max()) + 1) for (name, kind), classes in zip(names, drawn, strict=True)
    ]


def block(factors: list[Factor], strength: float = 8.0, seed: int = 1) -> Sides:
    """A representation that holds these factors, each class in a direction of its own, and some noise beside it."""
    rng = np.random.default_rng(seed)
    sides = []
    for part in ("fitted", "tested"):
        held = [np.eye(f.count)[getattr(f, part)] * strength for f in factors]
        clean = np.concatenate([*held, np.zeros((UTTERANCES, 3))], axis=1)
        sides.append(clean + rng.normal(size=clean.shape))
    return sides[0], sides[1]


def turned(sides: Sides) -> Sides:
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(sides[0].shape[1],) * 2))[0]
    return sides[0] @ turn, sides[1] @ turn


def test_blocks_of_one_kind_each_are_disentangled_and_complete(factors: list[Factor]) -> None:
    found = dci(turned(block(factors[:2])), turned(block(factors[2:], seed=2)), factors)
    for name in ("disentanglement", "disentanglement.textual", "disentanglement.acoustic", "completeness"):
        assert found[name] > 0.85, name
    assert found["informativeness"] > 0.95
    assert found["importance.letter_A.textual"] > 0.95
    assert found["importance.letter_A.acoustic"] < 0.05
    assert found["importance.speaker.acoustic"] > 0.95


def test_blocks_that_both_hold_everything_are_not(factors: list[Factor]) -> None:
    found = dci(turned(block(factors)), turned(block(factors, seed=2)), factors)
    for name in ("disentanglement", "completeness"):
        assert found[name] < 0.05, name
        assert found[f"{name}.ci_high"] < 0.1
    assert found["informativeness"] > 0.95
    assert found["importance.speaker.textual"] == pytest.approx(0.5, abs=0.05)


def test_a_leak_of_one_label_lowers_the_block_it_leaks_into(factors: list[Factor]) -> None:
    clean = dci(block(factors[:2]), block(factors[2:], seed=2), factors)
    leaky = dci(block(factors[:3]), block(factors[2:], seed=2), factors)
    assert leaky["disentanglement.textual.ci_high"] < clean["disentanglement.textual.ci_low"]
    assert leaky["disentanglement.acoustic"] > 0.85
    assert leaky["completeness"] < clean["completeness"] - 0.1


def test_swapped_blocks_are_as_disentangled_but_importance_tells(factors: list[Factor]) -> None:
    found = dci(block(factors[2:]), block(factors[:2], seed=2), factors)
    assert found["disentanglement"] > 0.85
    assert found["importance.letter_A.textual"] < 0.05


def test_blocks_that_hold_nothing_inform_of_nothing(factors: list[Factor]) -> None:
    found = dci(block([]), block([], seed=2), factors)
    assert abs(found["informativeness"]) < 0.1


def test_classes_that_are_rarer_in_one_split_inform_of_nothing_by_that() -> None:
    """Of a block that knows nothing, no more answers are right than of a guess."""
    rng = np.random.default_rng(0)
    letter = Factor("letter A", "text", *(rng.random((2, UTTERANCES)) < [[0.45], [0.9]]).astype(np.int64), 2)
    label = Factor("speaker", "label", *rng.integers(2, size=(2, UTTERANCES)), 2)
    found = dci(block([]), block([label], seed=2), [letter, label])
    assert abs(found["importance.letter_A.textual"]) < 0.1
    assert found["importance.speaker.acoustic"] > 0.95


def test_missing_labels_are_left_out(factors: list[Factor]) -> None:
    """Half the speakers are unknown, and where they are, the block says something wrong."""
    speaker = factors[2]
    gaps = np.arange(UTTERANCES) % 2 == 0
    missing = Factor("speaker", "label", np.where(gaps, -1, speaker.fitted), np.where(gaps, -1, speaker.tested), 4)
    sides = block([speaker], seed=2)
    for side in sides:
        side[gaps] = 0.0
    found = dci(block(factors[:2]), sides, [*factors[:2], missing])
    assert found["importance.speaker.acoustic"] > 0.95


def test_dimensions_that_tell_of_one_kind_are_modular(factors: list[Factor]) -> None:
    whole = block(factors)
    assert modularity(*whole, factors)["modularity"] > 0.95
    mixed = modularity(*turned(whole), factors)
    assert mixed["modularity.ci_high"] < 0.8


def test_a_dimension_that_tells_as_much_of_both_kinds_has_no_modularity() -> None:
    rng = np.random.default_rng(0)
    letter, label = rng.integers(2, size=(2, 2, UTTERANCES))
    factors = [Factor("letter A", "text", *letter, 2), Factor("speaker", "label", *label, 2)]
    sides = [(8.0 * (a + b) + rng.normal(size=UTTERANCES))[:, None] for a, b in zip(letter, label, strict=True)]
    assert modularity(*sides, factors)["modularity"] < 0.2


def test_letters_that_split_utterances_are_factors() -> None:
    """Every text has one E, two of five have an A, one has a Z."""
    texts: list[str | None] = ["BED AN", "BED AT", "BED ON", "BED IN", "BED IZ", None]
    found = {factor.name: factor for factor in letter_factors(texts, ["BEAD", "BED", None])}
    assert {"letter E", "letter Z"}.isdisjoint(found)
    assert found["letter A"].fitted.tolist() == [1, 1, 0, 0, 0, -1]
    assert found["letter A"].tested.tolist() == [1, 0, -1]
    assert letter_factors([None, None], [None]) == []


def test_a_text_is_a_factor_where_texts_come_back() -> None:
    (factor,) = text_factors(["ONE", "TWO", "ONE"], ["TWO", "SIX"])
    assert (factor.kind, factor.count) == ("text", 2)
    assert (factor.fitted.tolist(), factor.tested.tolist()) == ([0, 1, 0], [1, -1])
    assert text_factors(["ONE", "TWO"], ["SIX", "TEN", "ONE"]) == []
    assert text_factors(["ONE", None], ["ONE", "ONE"]) == []
