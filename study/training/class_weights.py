"""How much each class counts in the loss of a recipe (D124)."""

from __future__ import annotations

from collections.abc import Sequence

from study.spec.documents.data import Facts
from study.spec.errors import InputError
from study.spec.training import Recipe

INVERSE = "inverse"


def check(recipe: Recipe, classes: Sequence[str], where: str) -> None:
    """Raises InputError if the recipe weights a class that the data of the setting ``where`` does not have."""
    if unknown := [name for name in _named(recipe) if name not in classes]:
        raise InputError(
            f"recipe.class_weights of {where} must name classes of its data, got {unknown[0]!r}; choose from "
            f"{', '.join(classes)}, or write {INVERSE}"
        )


def weights_of(recipe: Recipe, facts: Facts) -> list[float] | None:
    """The weight of each class of data with the ``facts`` (see study.data.prepare), None if all classes count equally.
    Classes that the recipe does not name have weight 1.

    ``inverse``: all labelled training pixels, divided by the number of classes that have any and by the pixels of the
    class, so that every class has the same total weight (images in place of pixels for classes of images). A class
    without pixels, which the loss never sees, has weight 1.
    """
    if recipe.class_weights is None:
        return None
    classes, pixels = facts["classes"], facts["pixels"]
    if recipe.class_weights == INVERSE:
        shown = sum(number > 0 for number in pixels)
        return [sum(pixels) / (shown * number) if number else 1.0 for number in pixels]
    named = _named(recipe)
    return [float(named.get(name, 1)) for name in classes]


def _named(recipe: Recipe) -> dict[str, float]:
    weights = recipe.class_weights
    return {} if weights is None or isinstance(weights, str) else dict(weights)
