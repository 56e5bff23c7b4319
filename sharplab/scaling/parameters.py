"""What muP prescribes for one parameter, and the table of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharplab.scaling.inference import Growth
from sharplab.scaling.transformation import Factors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ScaledParameter:
    """One parameter: its growth with width, and what its initialiser was found to do.

    Attributes:
        init_std: the standard deviation that it is drawn with here, once scaled.
        init_exponent: the power of width found in its initialiser; `init_exact` if it is one.
        init_factor: what the draw of the user's own initialiser is multiplied by.
    """

    path: str
    shape: tuple[int, ...]
    growth: Growth
    in_branch: bool
    init_std: float
    init_exponent: float
    init_exact: bool
    init_factor: float

    @property
    def remark(self) -> str:
        """What is unusual about the parameter."""
        unusual = "" if self.init_exact else "init is no power of width: corrected by its size as measured"
        return "; ".join(filter(None, (self.growth.remark, unusual)))

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "ScaledParameter":
        """The parameter that `dataclasses.asdict` made plain, after JSON has made lists of its tuples."""
        matrix, of_shapes = saved["growth"]["matrix"], saved["growth"].get("of_shapes")
        tuples = {
            "matrix": matrix and (tuple(matrix[0]), tuple(matrix[1])),
            "of_shapes": of_shapes and tuple(of_shapes),
        }
        growth = dict(saved["growth"]) | tuples
        return cls(**dict(saved) | {"shape": tuple(saved["shape"]), "growth": Growth(**growth)})


def parameter_table(
    parameters: Sequence[ScaledParameter], factors: Factors, ratio: float, tied_multiplier: float
) -> "pd.DataFrame":
    """One row per parameter, as `Scaling.table` describes.

    Args:
        ratio: the width in units of the base.
        tied_multiplier: the multiplier of a table that is embedding and readout in one.
    """
    import pandas as pd

    rows = [
        {
            "path": p.path,
            "shape": p.shape,
            "role": p.growth.role,
            "fan_in": ratio ** p.growth.fans[0],
            "fan_out": ratio ** p.growth.fans[1],
            "init_std": p.init_std,
            "init_exponent": p.init_exponent,
            "multiplier": tied_multiplier if p.growth.role == "tied" else 1.0,
            "lr_factor": lr_factor,
            "decay_factor": decay,
            "epsilon_factor": gradient,
            "in_branch": p.in_branch,
            "remark": p.remark,
        }
        for p, lr_factor, decay, gradient in zip(
            parameters, factors.learning_rates, factors.decays, factors.gradients, strict=True
        )
    ]
    return pd.DataFrame(rows).set_index("path")
