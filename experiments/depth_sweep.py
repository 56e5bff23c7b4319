"""Does the best learning rate move with depth? A sweep over depths, learning rates and seeds on your own grid.

Paper: Noci et al., arXiv 2402.17457; Bordelon et al., arXiv 2309.16620; Dey et al., arXiv 2505.01618.
Cost: the quick preset takes a few minutes on two cores.
Expected: with alpha 0.5 the optimum stays where it is, with alpha 0 it falls with depth.

    python experiments/depth_sweep.py --depths 2 4 8 --alpha 0.5 --learning-rates 2^-3:2^1 --seeds 3 --store runs
    python experiments/depth_sweep.py --config sweep.toml --dry-run    # what it would do, how long, how much memory
    python experiments/depth_sweep.py --help
"""

from sharplab.commands.sweep import main

if __name__ == "__main__":
    main("depth")
