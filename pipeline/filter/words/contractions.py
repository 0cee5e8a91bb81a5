"""English words that are split without punctuation (do|n't, can|not) or kept whole with theirs (Mr., e.g., :-)).

In: nothing. Out: word → its pieces. The contractions, abbreviations and emoticons are those of the Penn Treebank's convention
(Marcus et al. 1993) and spaCy's English tokenizer, composed by rule here. Both apostrophes count.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

_BOTH = ("i", "you", "he", "she", "it", "we", "they")
_ASKING = ("who", "what", "when", "where", "why", "how", "there", "that", "this")
_POINTING = ("these", "those")
_NEGATED = (
    "ca",
    "could",
    "do",
    "does",
    "did",
    "had",
    "may",
    "might",
    "must",
    "need",
    "ought",
    "sha",
    "should",
    "wo",
    "would",
)
_STATES = ("ai", "are", "is", "was", "were", "have", "has", "dare")
_WOULD = (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve"))
# Words in their own right that look like contractions without an apostrophe.
_WORDS = frozenset(["ill", "its", "hell", "shell", "shed", "were", "well", "whore"])

_ABBREVIATIONS = (
    "Adm. Bros. Co. co. Corp. D.C. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Mt. Ph.D. Prof. Rep. Rev. "
    "Sen. St. a.m. p.m. e.g. E.g. E.G. i.e. I.e. I.E. vs. v.s. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. "
    "Ak. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. Mich. Minn. Miss. N.C. "
    'N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis. C++ and/or w/o \\n \\t \\") <space> — '
    "'' ' 'S 's ‘S ‘s 're 'd 'll"
)
_SHORTENED = (
    "'em em ll 'nuff nuff 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock lovin' Lovin' "
    "havin' Havin' doin' Doin' goin' Goin' nothin' Nothin' nuthin' Nuthin' ol' Ol' somethin' Somethin'"
)
_CUT = (
    "y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s "
    "Let|'s c'm|on C'm|on i|'m|a I|'m|a i|m|a I|m|a i|m I|m i|'m I|'m"
)
_FACES = (
    ":) :)) :))) (: =) (= :] [: [= =] :} :( :(( :((( ): =( ]= =[ :/ =/ =| :| :1 :P :p :O :o :0 :() >:( >:o :* :3 =3 :> :X "
    ":x :D ;D =D ;) (; 8) 8D xD XD xDD XDD :') :'( >.< >.> <.< ._. ;_; v.v V.V v_v V_V <3 <33 <333 </3 0.0 0_0 o.o O.O o.O "
    "O.o o_o O_O o_O O_o 0_o o_0 o.0 0.o @_@ ^_^ ^__^ ^___^ -_- -__- (^_^) (-_-) (._.) (>_<) (*_*) :o) (o:"
)
_NOSED = ":) :)) :))) :] :} ;) :( :(( :((( :/ :| :P :p :O :o :0 :* :3 :> :X :x :D ;D 8) 8D"


@cache
def list_special_words() -> dict[str, tuple[str, ...]]:
    """Return every special word with its pieces; a word that is kept whole has one."""
    words: dict[str, tuple[str, ...]] = {}
    for pieces in _compose():
        for apostrophe in ("'", "’"):
            written = tuple(piece.replace("'", apostrophe) for piece in pieces)
            words["".join(written)] = written
    return words


def _compose() -> Iterator[tuple[str, ...]]:
    """Yield the pieces of each special word, with straight apostrophes."""
    for small in _compose_contractions():
        for pieces in (small, (small[0].title(), *small[1:])):
            yield pieces
            bare = tuple(piece.replace("'", "") for piece in pieces)
            if "".join(bare).lower() not in _WORDS:
                yield bare
    for word in f"{_ABBREVIATIONS} {_SHORTENED} {_FACES}".split():
        yield (word,)
    for face in _NOSED.split():
        yield (f"{face[0]}-{face[1:]}",)
    for face in ("(-:", "(-;", "(-8", ")-:", "[-:", ":'-)", ":'-("):
        yield (face,)
    for letter in "abcdefghijklmnopqrstuvwxyzäöü":
        yield (f"{letter}.",)
    for word in _CUT.split():
        yield tuple(word.split("|"))
    for hour in range(1, 13):
        for half in ("am", "a.m.", "pm", "p.m."):
            yield (str(hour), half)
    for scale in "cfkCFK":
        yield ("°", scale, ".")


def _compose_contractions() -> Iterator[tuple[str, ...]]:
    """Yield each word and its contracted endings, with apostrophes."""
    for word in (*_BOTH, *_ASKING, *_POINTING):
        yield from ((word, *rest) for rest in _WOULD)
    for word in ("i", "you", "we", "they", *_ASKING[:-2], *_POINTING):
        yield (word, "'ve")
    for word in ("you", "we", "they", *_ASKING[:-2], *_POINTING):
        yield (word, "'re")
    for word in ("he", "she", "it", *_ASKING):
        yield (word, "'s")
    for word in (*_NEGATED, *_STATES):
        yield (word, "n't")
    for word in _NEGATED:
        yield (word, "n't", "'ve")
    for word in ("could", "might", "must", "should", "would"):
        yield (word, "'ve")
