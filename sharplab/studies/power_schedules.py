"""The power schedule of anyone's sweep: a learning-rate law followed along the tokens of one run."""

from sharplab.analysis.rate_laws import LearningRateLaw
from sharplab.core.arguments import checked, positive
from sharplab.core.grid import rounded

TOKENS = "tokens"


@checked(tokens=positive, least=positive)
def power_schedule(
    law: LearningRateLaw,
    tokens: float,
    *,
    least: float,
    warmup: float = 0.0,
    decay: float = 0.1,
    **sizes: float,
) -> tuple[str, float]:
    """The schedule that is the law's learning rate at the tokens so far, by name, and its peak learning rate.

    The name is one that `sharplab.Experiment(schedule=...)` and `sharplab.schedules.find_schedule` take. The exponent
    is that of the law, or 0 where the best learning rate rises with the tokens.

    Args:
        law: over tokens, and maybe other columns, as `sharplab.learning_rate_law` fits it on runs under WSD.
        tokens: that the run will see.
        least: tokens up to which the learning rate is that of so many, such as the fewest that the law was fitted on.
        warmup: the fraction of the run in which it rises linearly.
        decay: the fraction of the run in which it falls exponentially.
        sizes: of the law's other columns, such as batch_size.

    Raises:
        ValueError: for a law that is not over tokens, and other sizes than its own.

    Source: Shen et al., arXiv 2408.13359, where a and b are others' constants; here they are those of the law.

    >>> import numpy as np, pandas as pd, sharplab as sl
    >>> rates, tokens = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-14, 0), [1e6, 2e6, 4e6, 8e6]))
    >>> loss = 2 + 0.05 * np.log2(rates / (2.0**-6 * (tokens / 1e6) ** -0.5)) ** 2
    >>> runs = sl.Records(pd.DataFrame({"learning_rate": rates, "tokens": tokens, "seed": 0, "eval_loss": loss}))
    >>> name, peak = power_schedule(sl.learning_rate_law(runs, over="tokens"), 1e8, least=1e6)
    >>> name, round(peak, 4)
    ('power(flat=0.01, exponent=-0.5, warmup=0, decay=0.1)', 0.0156)
    """
    if TOKENS not in law.over:
        raise ValueError(f"law must be over tokens, and is over {', '.join(law.over)}: fit it with over='tokens'.")
    peak, _ = law.predict(**sizes, **{TOKENS: least})
    exponent = min(law.exponents[TOKENS], 0.0)
    flat = min(least / tokens, 1.0)
    return f"power(flat={flat:.4g}, exponent={exponent:.4g}, warmup={warmup:g}, decay={decay:g})", rounded(peak)
