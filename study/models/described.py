"""Variants and networks as JSON and back, for files that leave the run store (D140)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from study.spec.documents.models import ModelHead, ModelNetwork, ModelVariant
from study.spec.heads import Conv, Head, PerClass, Variant, Width
from study.spec.training import Network, freeze, thawed
from study.spec.typed import Json


def of_variant(variant: Variant) -> ModelVariant:
    """A variant as JSON."""
    at = {level: _of_head(head) for level, head in variant.at}
    return {
        "head": _of_head(variant.head),
        "refine": variant.refine if isinstance(variant.refine, bool) else list(variant.refine),
        "at": at,
    }


def variant_of(told: ModelVariant) -> Variant:
    """The variant of a JSON description by ``of_variant``. Raises InputError for an unknown kernel, width or place of
    BR."""
    refine = told["refine"] if isinstance(told["refine"], bool) else tuple(told["refine"])
    return Variant(_head_of(told["head"]), refine, tuple((n, _head_of(h)) for n, h in told["at"].items()))


def of_network(network: Network, mean: list[float], std: list[float]) -> ModelNetwork:
    """A network as JSON, with the mean and the standard deviation of its pixels (0..255)."""
    return {
        "backbone": network.backbone,
        "levels": list(network.levels),
        "options": cast(dict[str, Json], _as_json(thawed(network.options))),
        "frozen": network.frozen,
        "output_stride": network.output_stride,
        "fixed": {level: _of_head(head) for level, head in network.fixed},
        "deconvolution": network.deconvolution,
        "mean": mean,
        "std": std,
    }


def network_of(told: ModelNetwork) -> Network:
    """The network of a JSON description by ``of_network``. Raises InputError as variant_of does."""
    return Network(
        told["backbone"],
        tuple(told["levels"]),
        freeze(told["options"]),
        frozen=told["frozen"],
        output_stride=told["output_stride"],
        fixed=tuple((level, _head_of(head)) for level, head in told["fixed"].items()),
        deconvolution=told["deconvolution"],
    )


def _of_head(head: Head) -> ModelHead:
    chains = [[_of_convolution(conv) for conv in chain] for chain in head.chains]
    return {"chains": chains, "family": head.family, "kernel_size": head.kernel_size}


def _of_convolution(conv: Conv) -> Any:
    told = {"kernel": list(conv.kernel), "width": None if conv.width is None else str(conv.width)}
    return told | ({"activated": True} if conv.activated else {})


def _head_of(told: ModelHead) -> Head:
    chains = tuple(
        tuple(
            Conv((conv["kernel"][0], conv["kernel"][-1]), _width_of(conv["width"]), conv.get("activated", False))
            for conv in chain
        )
        for chain in told["chains"]
    )
    return Head(chains, told["family"], told["kernel_size"])


def _width_of(told: str | None) -> Width | None:
    if told is None:
        return None
    return PerClass(int(told.removesuffix("K"))) if told.endswith("K") else Fraction(told)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
