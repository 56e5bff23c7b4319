"""The sentences that say what a verdict means for someone who trains networks, and the topic of each figure.

A sentence is true of every way in which its verdict can come about: where a rule has several parts, "fails" says no
more than that one of them does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sharplab.gallery.finding import Verdict

TOPICS: Mapping[str, str] = {
    "width": "transfer over width",
    "depth": "transfer over depth",
    "curvature": "sharpness and spectra",
    "rates": "learning rates and schedules",
    "theory": "theory",
    "instruments": "how far the lab's numbers are right",
}


@dataclass(frozen=True)
class Meaning:
    """What each verdict on a claim or a figure means in practice, and the topic (of `TOPICS`)."""

    topic: str
    holds: str
    fails: str
    inconclusive: str = "These runs do not tell: do not rely on it yet, nor on its opposite."


ANY = Meaning(
    "",
    "What the claim says was seen here, surely beyond the scatter of the runs.",
    "The claim as worded does not hold here: the numbers say which part of it.",
)
SMOKE = "Made in seconds, to see that it works: it means nothing."


def meaning(name: str, verdict: Verdict) -> str:
    """The sentence for a figure or a claim of the paper; a general one for those that have none of their own."""
    said: str = getattr(MEANINGS.get(name, ANY), verdict)
    return said


def topic(name: str) -> str:
    """The topic of a figure, of `TOPICS`; empty where it has none."""
    return MEANINGS.get(name, ANY).topic


MEANINGS: Mapping[str, Meaning] = {
    "C5": Meaning(
        "depth",
        "Scale residual branches, and carry the learning rate to deeper networks where a block has one layer; tune "
        "again where it has more, and in vision transformers.",
        "Whether a learning rate carries over depth does not go by the paper's conditions here: check it at a second "
        "depth.",
        "When a learning rate carries over depth is partly open: see the figures one by one, and check it at a second "
        "depth.",
    ),
    "C9": Meaning(
        "width",
        "Carrying a learning rate under muP does not hang on batch size, augmentation, data or architecture, as far as "
        "was tried.",
        "Carrying a learning rate under muP hangs on the setting: see which figure fails before you rely on it.",
        "Rely on it in the settings whose figure holds; in those that are open, check a second width.",
    ),
    "transfer": Meaning(
        "width",
        "With muP, tune the learning rate on a narrow network and use it on a wide one; under NTK parameterization it "
        "would be too low there.",
        "The learning rate does not go with the width as muP promises: sweep at two widths before you carry one.",
    ),
    "sharpening": Meaning(
        "curvature",
        "Under muP the sharpness of a narrow network is that of a wide one: measure it once, where it is cheap.",
        "The sharpness of a narrow network does not tell that of a wide one: measure it at the width you train.",
    ),
    "eigenvalues": Meaning(
        "curvature",
        "Compare widths by the top eigenvalue alone: the others, the trace and the loss differ between widths.",
        "Do not tell apart by consistency what matters for the learning rate: the top eigenvalue and the others do not "
        "differ in it as claimed.",
        "Compare widths by the top eigenvalue; of the others these runs do not tell enough.",
    ),
    "convergence": Meaning(
        "curvature",
        "Loss and eigenvalues of wide networks can be extrapolated from narrow ones by powers of the width.",
        "Do not extrapolate losses and eigenvalues by these power laws: at least one gap goes the other way.",
    ),
    "depth-convnet": Meaning(
        "depth",
        "With one layer per residual block, scale branches by depth^-1/2 and carry the learning rate to deeper "
        "networks; with more layers per block, tune again.",
        "How many layers a block has does not decide whether the learning rate carries over depth: check a second "
        "depth.",
        "Whether the learning rate carries over depth in these ConvNets is open: check a second depth.",
    ),
    "depth": Meaning(
        "depth",
        "Scale residual branches by depth^-1/2 or 1/depth, and the learning rate of a shallow network serves a deep "
        "one; without, it has to fall.",
        "Scaling the branches does not do for depth what is claimed: check a second depth.",
    ),
    "depth-vit": Meaning(
        "depth",
        "Tune a deep vision transformer at its own depth: scaled branches do not make its learning rate carry.",
        "The learning rate of a shallow vision transformer with scaled branches serves a deeper one.",
        "Whether a vision transformer's learning rate carries over depth is open: check a second depth.",
    ),
    "gauss-newton": Meaning(
        "curvature",
        "Under muP the Gauss-Newton matrix may stand for the Hessian where the largest eigenvalue is meant.",
        "Do not take the Gauss-Newton matrix for the Hessian unseen: its share or its growth is not as claimed.",
    ),
    "random-features": Meaning(
        "curvature",
        "A sharpness that rises, alike at every width, is a sign of feature learning: a readout alone shows neither.",
        "Do not take the sharpness as a sign of feature learning: with and without, it is not told apart as claimed.",
    ),
    "adam": Meaning(
        "width",
        "Under Adam use muP and carry the learning rate over widths; without it, lower the rate as the network widens.",
        "Under Adam the learning rate does not go with the width as claimed: sweep at two widths first.",
    ),
    "batch-size": Meaning(
        "width",
        "Under muP carry the learning rate over widths at any of these batch sizes, tuned at the one you train with.",
        "Whether the learning rate carries over widths hangs on the batch size: see yours in the numbers.",
    ),
    "augmentation": Meaning(
        "width",
        "Data augmentation does not hinder carrying a learning rate over widths under muP.",
        "Check a second width with the augmentation that you train with.",
    ),
    "directional": Meaning(
        "curvature",
        "Under muP the curvature along the gradient, which costs one Hessian product, may stand for the sharpness "
        "where widths are compared.",
        "Do not take the curvature along the gradient for the sharpness where widths are compared.",
    ),
    "vit": Meaning(
        "width",
        "Train vision transformers with muP and carry Adam's learning rate over widths; without it, lower the rate.",
        "Adam's learning rate does not go with the width of this vision transformer as claimed: check a second width.",
        "Whether muP carries Adam's learning rate in this vision transformer is open: check a second width.",
    ),
    "gpt": Meaning(
        "width",
        "Train language models with muP and carry Adam's learning rate over widths; without it, lower the rate.",
        "Adam's learning rate does not go with the width of this language model as claimed: check a second width.",
        "Whether muP carries Adam's learning rate in this language model is open: check a second width.",
    ),
    "autolrs": Meaning(
        "rates",
        "A learning rate searched stage by stage saves steps over tuned schedules, if the search costs you nothing.",
        "Tune a schedule: a learning rate searched stage by stage takes more steps on at least one network, with the "
        "search for free.",
    ),
    "batch-spectra": Meaning(
        "rates",
        "Scale the largest learning rate with the batch size up to a threshold that the batch's spectrum tells, and "
        "with its root under Adam.",
        "Do not scale the learning rate with the batch size by this law alone: at least one part of it does not hold.",
    ),
    "calibration": Meaning(
        "instruments",
        "The lab's intervals and verdicts on transfer can be taken at their stated rates.",
        "Take the lab's intervals as narrower than they should be, until this is mended.",
    ),
    "decay": Meaning(
        "width",
        "Under muP a learning rate tuned together with a decay to 0 carries over widths too.",
        "With a decay to 0 carrying is not as claimed: sweep with your schedule at two widths.",
    ),
    "deep-kernels": Meaning(
        "theory",
        "How an infinitely wide and deep network classifies can be read off two slopes of its activation.",
        "Do not read the limit of deep networks off their activation alone: a part of the theory is not seen.",
    ),
    "embedding": Meaning(
        "width",
        "Under Adam it may be enough to raise the embedding's learning rate with the width.",
        "To raise the embedding's learning rate with the width is not enough: use muP, or sweep.",
    ),
    "gamma": Meaning(
        "rates",
        "Scale the learning rate with the richness γ₀ by the theory's powers, and it need not be tuned again.",
        "Do not scale the learning rate with the richness γ₀ by these powers alone: tune it at the γ₀ you train with.",
    ),
    "instruments": Meaning(
        "curvature",
        "The critical sharpness, which needs values of the loss alone, tells how near each of these optimizers is to "
        "its edge.",
        "No one curvature is right for every optimizer: see which sits at its threshold under yours.",
    ),
    "kernel": Meaning(
        "theory",
        "Under NTK parameterization wide networks can be predicted by their kernel, without training.",
        "Do not predict these networks by their kernel: at least one gap does not close with the width as it should.",
    ),
    "loss-mse": Meaning(
        "width",
        "Carrying the learning rate under muP works with squared error as with cross-entropy.",
        "With squared error the learning rate or the sharpness is not as claimed: check a second width.",
        "With squared error check a second width before you carry a learning rate.",
    ),
    "optimizers": Meaning(
        "width",
        "Under muP carry the learning rate over widths with any of these optimizers.",
        "Under at least one of these optimizers the learning rate does not carry: see yours in the numbers.",
        "Under some of these optimizers the runs do not tell: see yours in the numbers.",
    ),
    "oscillation": Meaning(
        "rates",
        "A learning rate so large that training oscillates can teach what a smaller one leaves: try the largest that "
        "still fits.",
        "Do not count on large learning rates to find weak features.",
        "Whether oscillating training helps beyond toys is open: do not count on it.",
    ),
    "parameterizations": Meaning(
        "width",
        "Carry Adam's learning rate by muP, mean field or an exponent per layer; one rate for all layers has to be "
        "tuned again.",
        "Not each of these ways carries Adam's learning rate as claimed: choose one whose interval lies within ±0.25.",
    ),
    "perceptron": Meaning(
        "theory",
        "On separable data a larger learning rate is done sooner, though its loss on the way is higher: do not judge "
        "it by the loss.",
        "Do not raise the learning rate on separable data in the hope of being done sooner.",
    ),
    "refined": Meaning(
        "rates",
        "A schedule refined from a small network's gradient norms is as good as linear decay, on a wider one too.",
        "Stay with linear decay: refining a schedule from gradient norms does not keep all that it promises.",
    ),
    "schedules": Meaning(
        "rates",
        "Take linear decay by default, and REX where the budget is short.",
        "At least one of these rules of thumb does not hold: choose a schedule by the ranks, at your budget.",
    ),
    "smoothness": Meaning(
        "theory",
        "The Gauss-Newton matrix does for the Hessian in this Newton's method on LogSumExp.",
        "Do not exchange the Hessian for the Gauss-Newton matrix in this Newton's method: it takes another number of "
        "steps.",
    ),
    "spectral-learner": Meaning(
        "rates",
        "Heavy ball set from the batch's spectrum needs no tuning, and pays for its spectra.",
        "Tune heavy ball: set from the batch's spectrum it takes more gradients to the same loss.",
    ),
    "spectrum": Meaning(
        "instruments",
        "Recorded eigenvalues can be taken with the errors beside them, and their residuals as bounds.",
        "Check recorded eigenvalues by a dense solve, until this is mended.",
    ),
    "trust-region": Meaning(
        "rates",
        "Measure the sharpness after a tenth of training: the best learning rate lies within an octave of it.",
        "Sweep the learning rate: the sharpness after a tenth of training tells it no better than to an octave or two.",
        "A learning rate read off the sharpness is a place to begin a sweep, not an answer.",
    ),
    "large-batch": Meaning(
        "rates",
        "Move LAMB's learning rate as the root of the batch size, and under muP give hidden weights a factor width^−½.",
        "What is said of LAMB does not all hold here: the numbers say what of batch, gain and width does not.",
        "What is said of LAMB is partly open here: tune its learning rate at your batch size and width.",
    ),
    "rewarming": Meaning(
        "rates",
        "Before going back up, measure the checkpoint's critical learning rate: peaks above it spike.",
        "The critical learning rate of a checkpoint tells no more of spikes than the peak does.",
        "Peaks well above a checkpoint's critical learning rate mostly spike, and so do peaks that are simply high.",
    ),
    "power": Meaning(
        "rates",
        "Set the learning rate proportional to the batch size and to tokens^-0.51; one schedule serves at any length.",
        "Do not take others' power schedule as it is: here the learning rate goes with other powers. Fit your own.",
        "Whether the best learning rate goes with tokens^-0.51 is open at these lengths.",
    ),
    "annealing": Meaning(
        "rates",
        "An annealing law fitted on three short runs tells how others end; its own best schedule is good, not best.",
        "An annealing law fitted on three short runs does not tell all that it promises, or not at every width.",
        "An annealing law fitted on three short runs may tell how others end; how well is open.",
    ),
    "lr-free": Meaning(
        "rates",
        "Use NadamW with the learning rate that did for your other tasks, rather than a method that needs none.",
        "At least one method that needs no learning rate is sooner at the target than NadamW of one setting: try it.",
        "Whether the best of the methods that need no learning rate is as soon as NadamW of one setting is open.",
    ),
    "task-sequence": Meaning(
        "rates",
        "Where classes come back, train on at one learning rate tuned on a narrow network; sharpness tells forgetting.",
        "Where classes come back, one fails of: gains from task to task, a rate that carries, sharpness that tells.",
    ),
    "early-stop": Meaning(
        "rates",
        "Before finishing a run, look for earlier runs of its schedule that are near it: they tell its final loss.",
        "That earlier runs are near a run that is stopped does not make them its best forecast.",
    ),
    "edge": Meaning(
        "curvature",
        "With full batches the sharpness settles at the optimizer's threshold: it is set by the learning rate.",
        "With full batches the sharpness of at least one of these optimizers does not settle at its threshold.",
        "With full batches the sharpness ends near each optimizer's threshold; how near is open for some.",
    ),
}
