"""Spectra of linear operators from products alone, every value with its error."""

from sharplab.spectrum.extremal import Eigenpairs, eigsh

__all__ = ["Eigenpairs", "eigsh"]
