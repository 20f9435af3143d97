"""Gates: which figures of a brain deserve a look, and which refuse it."""

from __future__ import annotations

from mrharmony.prepare.mask_quality import MaskQuality
from mrharmony.volume import Finding, MrharmonyError

# Measured: 68 brains of five scanners 0.949 to 0.989; virtual old people's MP2RAGE images, whose fluid is as
# black as air, from 0.895; ellipsoids 0.92 to 0.93; half heads and brains upside down up to 0.877.
_LOWEST_SIMILARITY = 0.885
_USUAL_SIMILARITY = 0.94
_LOWEST_WHITE_TO_GREY = 1.0
_USUAL_BORDER = 0.75
_USUAL_SYMMETRY = 0.93
_USUAL_TEMPLATE_DICE = 0.90
_USUAL_ONE_PIECE = 0.98


def quality_findings(quality: MaskQuality) -> tuple[Finding, ...]:
    """Return warnings for a brain that is unlike one.

    Raises
    ------
    MrharmonyError
        Where what was found is no brain, or not in T1w contrast.
    """
    if quality.similarity < _LOWEST_SIMILARITY:
        raise MrharmonyError(
            f"what was found is unlike a brain (correlation {quality.similarity:.2f} with the template): "
            "check that the scan is a T1w image of a whole head the right way up, or give a brain mask."
        )
    if quality.white_to_grey < _LOWEST_WHITE_TO_GREY:
        raise MrharmonyError(
            f"white matter is darker than grey matter ({quality.white_to_grey:.2f} of it): "
            "check that the scan is a T1w image and not another contrast, inverted or upside down."
        )
    return tuple(_warnings(quality))


def _warnings(quality: MaskQuality) -> list[Finding]:
    gates = (
        (
            "unlike-template",
            quality.similarity,
            _USUAL_SIMILARITY,
            "correlation of the brain with the template",
        ),
        (
            "unlike-template-shape",
            quality.template_dice,
            _USUAL_TEMPLATE_DICE,
            "overlap with the template's brain",
        ),
        ("lopsided-mask", quality.symmetry, _USUAL_SYMMETRY, "overlap of the mask with its mirror image"),
        (
            "unclear-border",
            quality.border_contrast,
            _USUAL_BORDER,
            "share of the border that is brighter inside",
        ),
        ("scattered-mask", quality.one_piece, _USUAL_ONE_PIECE, "share of the mask in one piece"),
    )
    return [
        Finding(
            level="warning",
            code=code,
            message=f"the {what} is {value:.2f} only (usual: at least {usual:.2f}).",
            fix="Look at the brain mask and at the canonical brain.",
        )
        for code, value, usual, what in gates
        if value < usual
    ]
