"""Short English sentences of varied everyday words, from a small grammar."""

from __future__ import annotations

import random
import zlib
from typing import Literal

_WORDS: dict[str, tuple[str, ...]] = {
    "DET": ("the", "some", "my", "your", "this", "that", "every", "one", "our", "their"),
    "ADJ": (
        "red", "small", "old", "quiet", "heavy", "green", "early", "warm", "empty", "bright", "young",
        "broken", "gentle", "wooden", "strange", "yellow", "simple", "hungry", "lovely", "narrow", "golden",
        "frozen",
    ),
    "NOUN": (
        "dog", "window", "river", "teacher", "garden", "bottle", "farmer", "letter", "kitchen", "mountain",
        "doctor", "basket", "bridge", "camera", "pilot", "village", "blanket", "singer", "market", "station",
        "captain", "monkey", "island", "painter", "engine", "sister", "hammer", "forest", "guitar", "uncle",
        "balloon", "driver", "castle", "rabbit", "lemon", "judge",
    ),
    "VERB": (
        "found", "carried", "painted", "opened", "watched", "followed", "moved", "cleaned", "sold", "lost",
        "remembered", "visited", "kept", "touched", "wanted", "borrowed", "noticed", "fixed",
    ),
    "GO": ("walked", "waited", "danced", "slept", "jumped", "worked", "stayed", "sang", "laughed", "turned"),
    "PREP": ("near", "behind", "under", "beside", "without", "inside", "past", "from", "above", "around"),
    "ADV": (
        "slowly", "again", "today", "quickly", "often", "always", "never", "together", "alone", "tonight",
    ),
    "NAME": ("Peter", "Susan", "Victor", "Helen", "Oscar", "Martha", "Felix", "Julia", "Boris", "Nancy"),
}  # fmt: skip

_TEMPLATES = (
    "DET ADJ NOUN VERB DET NOUN",
    "DET NOUN GO PREP DET NOUN",
    "NAME VERB DET ADJ NOUN ADV",
    "NAME and NAME GO PREP DET NOUN",
    "ADV DET NOUN VERB NAME",
    "DET NOUN PREP DET NOUN GO ADV",
)

Part = Literal["corpus", "encoder"]


def make_sentences(count: int, seed: int = 0, part: Part = "corpus") -> list[str]:
    """`count` different sentences, the same for the same arguments.

    Every sentence the grammar can make belongs to one of two parts by a hash of its text: `corpus` sentences
    make the synthetic corpus, `encoder` sentences trained the embedded encoder. So no corpus, of any size or
    seed, holds a sentence that the embedded encoder was trained on.
    """
    generator = random.Random(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        template = _TEMPLATES[len(sentences) % len(_TEMPLATES)]
        sentence = " ".join(generator.choice(_WORDS[slot]) if slot in _WORDS else slot for slot in template.split())
        if (zlib.crc32(sentence.encode()) % 2 == 0) == (part == "corpus"):
            sentences[sentence] = None
    return list(sentences)
