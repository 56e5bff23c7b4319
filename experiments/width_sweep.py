"""Does the best learning rate move with width? A sweep over widths, learning rates and seeds on your own grid.

Paper: Noci et al., arXiv 2402.17457, and Yang et al., arXiv 2203.03466.
Cost: the quick preset takes about five minutes on two cores.
Expected: under muP the optimum stays within a quarter octave per doubling of width, under NTK it grows.

    python experiments/width_sweep.py --widths 8 16 32 --learning-rates 2^-1:2^5 --seeds 3 --store runs
    python experiments/width_sweep.py --config sweep.toml --dry-run    # what it would do, how long, how much memory
    python experiments/width_sweep.py --help
"""

from sharplab.commands.sweep import main

if __name__ == "__main__":
    main("width")
