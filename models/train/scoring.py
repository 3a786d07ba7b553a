"""Word error rates. Case, punctuation and the way numbers are written don't count."""

import re

import figures


def words(text):
    """The spoken words of a transcript."""
    return re.sub(r"[^a-z' ]", "", (figures.spoken(text) or text).lower().replace("-", " ")).split()


def distance(reference, other):
    """Edits between two lists."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(reference, 1):
        before, row[0] = row[:], i
        for j, b in enumerate(other, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
    return row[-1]


def word_errors(references, others):
    """The error rate over all the sentences."""
    pairs = [(words(a), words(b)) for a, b in zip(references, others)]
    return sum(distance(a, b) for a, b in pairs) / max(1, sum(len(a) for a, _ in pairs))
