"""Short sentences of varied everyday words, English or German, from a small grammar of each."""

from __future__ import annotations

import random
import zlib
from typing import Literal

_ENGLISH: dict[str, tuple[str, ...]] = {
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

_GERMAN: dict[str, tuple[str, ...]] = {
    "DER": ("der", "ein", "dieser", "jeder", "mein", "dein", "unser", "kein"),
    "DEN": ("den", "einen", "diesen", "jeden", "meinen", "deinen", "unseren", "keinen"),
    "DEM": ("dem", "einem", "diesem", "jedem", "meinem", "deinem", "unserem"),
    "ADJ": (
        "roten", "kleinen", "alten", "leisen", "schweren", "grünen", "warmen", "leeren", "jungen", "schönen", "langen",
        "fremden", "gelben", "breiten", "hölzernen", "runden",
    ),
    # Masculine nouns that are the same in these three cases.
    "NOUN": (
        "Hund", "Fluss", "Lehrer", "Garten", "Berg", "Bauer", "Brief", "Korb", "Arzt", "Markt", "Sänger", "Hammer",
        "Wald", "Onkel", "Ballon", "Fahrer", "Turm", "Richter", "Löffel", "Teppich", "Bahnhof", "Stuhl", "Apfel", "Zug",
    ),
    "VERB": (
        "findet", "trägt", "malt", "öffnet", "sieht", "sucht", "bewegt", "verkauft", "verliert", "besucht", "behält",
        "berührt", "kauft", "zeichnet",
    ),
    "GO": ("wartet", "tanzt", "schläft", "springt", "arbeitet", "bleibt", "singt", "lacht", "steht", "sitzt"),
    "PREP": ("neben", "hinter", "unter", "vor", "an", "über"),
    "ADV": ("langsam", "wieder", "heute", "schnell", "oft", "immer", "nie", "allein", "morgen", "gerne"),
    "NAME": ("Peter", "Susanne", "Viktor", "Helene", "Oskar", "Martha", "Felix", "Julia", "Boris", "Anna"),
}  # fmt: skip

_GERMAN_TEMPLATES = (
    "DER NOUN VERB ADV DEN ADJ NOUN",
    "DER NOUN GO PREP DEM NOUN",
    "NAME VERB ADV DEN ADJ NOUN",
    "ADV GO NAME PREP DEM ADJ NOUN",
    "ADV VERB DER NOUN NAME",
    "NAME oder DER NOUN GO PREP DEM NOUN",
)

_ENGLISH_TEMPLATES = (
    "DET ADJ NOUN VERB DET NOUN",
    "DET NOUN GO PREP DET NOUN",
    "NAME VERB DET ADJ NOUN ADV",
    "NAME and NAME GO PREP DET NOUN",
    "ADV DET NOUN VERB NAME",
    "DET NOUN PREP DET NOUN GO ADV",
)

_GRAMMARS = {"en-us": (_ENGLISH, _ENGLISH_TEMPLATES), "de": (_GERMAN, _GERMAN_TEMPLATES)}
LANGUAGES = tuple(_GRAMMARS)
"""Those that sentences can be made in, as espeak-ng calls them."""

Part = Literal["corpus", "encoder"]


def make_sentences(count: int, seed: int = 0, part: Part = "corpus", language: str = "en-us") -> list[str]:
    """`count` different sentences, the same for the same arguments.

    Every sentence the grammar can make belongs to one of two parts by a hash of its text: `corpus` sentences
    make the synthetic corpus, `encoder` sentences trained the embedded encoder. So no corpus, of any size or
    seed, holds a sentence that the embedded encoder was trained on.
    """
    words, templates = _GRAMMARS[language]
    generator = random.Random(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        template = templates[len(sentences) % len(templates)]
        sentence = " ".join(generator.choice(words[slot]) if slot in words else slot for slot in template.split())
        if (zlib.crc32(sentence.encode()) % 2 == 0) == (part == "corpus"):
            sentences[sentence] = None
    return list(sentences)
