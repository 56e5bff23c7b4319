"""Spectra of symmetric operators from matrix-vector products alone, each value with its error."""

from sharplab.spectrum.density import SpectralDensity, spectral_density
from sharplab.spectrum.eigenpairs import Eigenpairs
from sharplab.spectrum.estimate import Estimate
from sharplab.spectrum.extremal import eigsh
from sharplab.spectrum.functionals import effective_dimension, logdet
from sharplab.spectrum.in_norms import NormSharpness, norm_sharpness
from sharplab.spectrum.resampling import Resampled, resample
from sharplab.spectrum.stochastic import diagonal, trace

__all__ = [
    "Eigenpairs",
    "Estimate",
    "NormSharpness",
    "Resampled",
    "SpectralDensity",
    "diagonal",
    "effective_dimension",
    "eigsh",
    "logdet",
    "norm_sharpness",
    "resample",
    "spectral_density",
    "trace",
]
