"""Options of data sets whose training masks can be made coarse."""

from __future__ import annotations

from typing import Annotated

from study.spec import checks


class Coarse(checks.Block):
    """Options of sets whose training masks can be made coarse, as Cityscapes' are."""

    coarse_share: Annotated[float, checks.number(0, 1)]  # of the training images
    coarse_px: Annotated[int, checks.whole(0, 1000)]  # see boundaries.coarse

    def check(self) -> None:
        if self.coarse_share and not self.coarse_px:
            raise checks.Broken(
                "be at least 1 if coarse_share is above 0 (otherwise no mask is coarse)", "0",
                "set it, or set coarse_share to 0", "coarse_px",
            )  # fmt: skip
