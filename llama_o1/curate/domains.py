"""Domains of questions: clusters of their embeddings, by scikit-learn (the extra `curate`).

s1 asks a closed model for classes of mathematics; a column may hold such classes, and clusters stand in where
there is none. The same questions and seed give the same clusters: one thread, a seeded start.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from llama_o1.errors import ConfigError

STARTS = 4  # of which the tightest clusters are kept
TERMS = 3  # words that name a cluster


def check_installed() -> None:
    """ConfigError when scikit-learn is not there."""
    if find_spec("sklearn") is None:
        raise ConfigError(
            "domains.by clusters needs scikit-learn, which is not installed; "
            'install it with pip install -e ".[curate]", or set domains.by to column or set'
        )


def by_words(questions: Sequence[str], count: int, seed: int) -> list[str]:
    """The cluster of each question by its words (TF-IDF), named by the words that tell it from the others."""
    weights, terms = _tfidf(questions)
    return _clusters(weights, weights, terms, count, seed)


def by_vectors(questions: Sequence[str], vectors: Any, count: int, seed: int) -> list[str]:
    """The cluster of each question by its vector, [questions, width]; named as by_words."""
    weights, terms = _tfidf(questions)
    return _clusters(vectors, weights, terms, count, seed)


def _tfidf(questions: Sequence[str]) -> tuple[Any, list[str]]:
    """Weights of words, [questions, words], and the words; numbers are none, and names of one question."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    least = 2 if len(questions) >= 100 else 1
    vectorizer = TfidfVectorizer(
        stop_words="english", token_pattern=r"[A-Za-z]{3,}", min_df=least, sublinear_tf=True
    )
    try:
        weights = vectorizer.fit_transform(questions)
    except ValueError as error:  # no question holds a word
        raise ConfigError(
            "no words are left to cluster the questions by; set domains.by to column or set"
        ) from error
    return weights, [str(term) for term in vectorizer.get_feature_names_out()]


def _clusters(vectors: Any, weights: Any, terms: Sequence[str], count: int, seed: int) -> list[str]:
    """Names of clusters by size: `01 apples bag fruit` is the largest."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    count = min(count, vectors.shape[0])
    means = KMeans(count, n_init=STARTS, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different questions than clusters
        labels = [int(label) for label in means.fit_predict(vectors)]
    sizes = Counter(labels)
    ordered = sorted(sizes, key=lambda label: (-sizes[label], labels.index(label)))
    names = {
        label: f"{place:02d} {_words(weights, terms, labels, label)}".strip()
        for place, label in enumerate(ordered, start=1)
    }
    return [names[label] for label in labels]


def _words(weights: Any, terms: Sequence[str], labels: Sequence[int], label: int) -> str:
    """The words with the greatest mean weight over what they have elsewhere."""
    inside = np.array([one == label for one in labels])
    here = np.asarray(weights[inside].mean(axis=0)).ravel()
    everywhere = np.asarray(weights.mean(axis=0)).ravel()
    best = np.argsort(everywhere - here, kind="stable")[:TERMS]
    return " ".join(terms[i] for i in best if here[i] > 0)
