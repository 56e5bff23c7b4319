"""The rules from a sharpness to the optimal learning rate, learned from the gallery's sweeps.

`python experiments/trust_region.py` writes their file from what is kept with the figure `trust-region`.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import pandas as pd

from sharplab.analysis.trust_region import RateRule

BUNDLED = Path(__file__).with_name("rate_rules.json")


@cache
def rate_rules() -> Mapping[str, Mapping[str, RateRule]]:
    """The rules by source and optimizer, as `sharplab.analysis.trust_region.all_rules` gives them."""
    return msgspec.json.decode(BUNDLED.read_bytes(), type=dict[str, dict[str, RateRule]])


def rate_rules_table() -> pd.DataFrame:
    """The rules as a table: a row per source of the reading and optimizer.

    `right` is the share of optima within an octave, `half_width` that of 80 % intervals in octaves, both where the
    figure is left out.

    >>> list(rate_rules_table())
    ['source', 'optimizer', 'offset', 'error', 'right', 'figures', 'cases', 'half_width']
    """
    rows = [
        {"source": source, "optimizer": name, **vars(rule), "half_width": rule.half_width()}
        for source, rules in rate_rules().items()
        for name, rule in rules.items()
    ]
    return pd.DataFrame(rows)
