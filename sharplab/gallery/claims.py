"""The paper's claims, which figures test them, and the verdict on a claim from those on its figures."""

from collections.abc import Mapping, Sequence

from sharplab.gallery.finding import Verdict

PAPER = "Noci, Meterez, Hofmann, Orvieto: Super Consistency of Neural Network Landscapes and Learning Rate Transfer"
PAPER_ADDRESS = "https://arxiv.org/abs/2402.17457"
CLAIMS: Mapping[str, str] = {
    "C1": "Under muP the optimal learning rate is nearly the same at every width; under NTK parameterization it "
    "is not.",
    "C2": "Under muP the largest Hessian eigenvalue follows one trajectory at every width, which rises to about "
    "2/η and stays there; under NTK parameterization sharpening slows down as the width grows.",
    "C3": "Smaller Hessian eigenvalues, the trace, the largest NTK eigenvalues and the loss do not follow one "
    "trajectory: their gap between widths grows along training.",
    "C4": "Loss, NTK eigenvalue and sharpness approach their wide limits as powers of the width, and the gaps "
    "grow as powers of time.",
    "C5": "With residual branches scaled by depth^-1/2 the optimal learning rate transfers in depth with one "
    "layer per block, but not with two or more, nor fully in vision transformers.",
    "C6": "Under muP the top of the Hessian is dominated by the Gauss-Newton part, alike at every width; under "
    "NTK parameterization training is lazy, and that part hardly moves.",
    "C7": "Where only the readout learns (random features) there is neither progressive sharpening nor the "
    "consistency over widths that muP brings.",
    "C8": "Under Adam the same is true of the preconditioned Hessian.",
    "C9": "All this is robust to the batch size, to leaving augmentation out, to other data and architectures "
    "(vision transformers, language), and shows in the sharpness along the gradient too.",
}
TESTED_BY: Mapping[str, tuple[str, ...]] = {
    "transfer": ("C1",),
    "sharpening": ("C2",),
    "eigenvalues": ("C3",),
    "convergence": ("C4",),
    "depth-convnet": ("C5",),
    "depth": ("C5",),
    "depth-vit": ("C5",),
    "gauss-newton": ("C6",),
    "random-features": ("C7",),
    "adam": ("C8",),
    "batch-size": ("C9",),
    "augmentation": ("C9",),
    "directional": ("C9",),
    "vit": ("C9",),
    "gpt": ("C9",),
}
"""Figure → the claims that it tests, in the order in which they are shown; any other goes beyond the paper."""


def claim_verdict(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """The verdict on a claim from those on its figures, None standing for a figure that is not made.

    "fails" if any figure fails, "holds" if all are made and hold, else "inconclusive"; None if none is made.
    """
    if all(verdict is None for verdict in verdicts):
        return None
    if "fails" in verdicts:
        return "fails"
    return "holds" if all(verdict == "holds" for verdict in verdicts) else "inconclusive"
