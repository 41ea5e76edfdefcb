"""Class probabilities from labelled images, in any feature space: what the inception score needs where there is no Inception.

A multinomial logistic regression on standardized vectors. The score that comes of it says whether samples fall clearly into
the data set's *own* classes, and into all of them; it is not comparable with published inception scores, whose classes are
those of ImageNet. Its highest value is the number of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scorescope.foundation import UserError
from scorescope.probes.features import Features

PENALTY = 0.01  # inverse strength of the regularization: vectors are long, labelled images may be few
MOST_STEPS = 300


class FeatureClasses:
    """A classifier of vectors.

    Attributes:
        classes: the classes in the order of `log_probabilities`, (K,).

    Args:
        vectors: of labelled images, (N, F).
        labels: their classes, int (N,).

    Raises:
        UserError: fewer than two classes, or another number of labels than of vectors.
    """

    def __init__(self, vectors: Features, labels: npt.NDArray[np.integer]) -> None:
        if len(vectors) != len(labels) or len(np.unique(labels)) < 2:
            raise UserError(
                f"classes are learned from one label a vector, of at least two classes: found {len(vectors)} vectors and"
                f" {len(labels)} labels of {len(np.unique(labels))} classes"
            )
        self.model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=MOST_STEPS))
        self.model.fit(vectors.astype(np.float64), labels)
        self.classes: npt.NDArray[np.integer] = self.model.classes_

    def log_probabilities(self, vectors: Features) -> npt.NDArray[np.float64]:
        """Log probability of every class, (N, K)."""
        return np.asarray(self.model.predict_log_proba(vectors.astype(np.float64)), dtype=np.float64)

    def accuracy(self, vectors: Features, labels: npt.NDArray[np.integer]) -> float:
        """Share of vectors whose likeliest class is their label."""
        return float((self.model.predict(vectors.astype(np.float64)) == labels).mean())
