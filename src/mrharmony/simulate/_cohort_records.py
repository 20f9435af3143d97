"""What is written beside the images of a virtual cohort: sidecars, truth, columns of tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.lesions import GREY_SHARE
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.signal import Mprage, Sequence, SpoiledGradientEcho
from mrharmony.volume import Matrix


def scan_sidecar(scanner: Scanner) -> dict[str, Any]:
    """Return a scan's JSON sidecar; times in seconds as BIDS has them."""
    sequence = scanner.sequence
    sidecar: dict[str, Any] = {
        "Modality": "MR",
        "Scanner": scanner.name,
        "ScannerDescription": scanner.description,
        "MagneticFieldStrength": scanner.field_strength,
        "MRAcquisitionType": "3D",
        "EchoTime": sequence.echo_time_ms / 1000,
        "SkullStripped": True,
        "Simulated": True,
    }
    return sidecar | _timing(sequence)


def _timing(sequence: Sequence) -> dict[str, Any]:
    if isinstance(sequence, SpoiledGradientEcho):
        return {
            "ScanningSequence": "GR",
            "FlipAngle": sequence.flip_angle_deg,
            "RepetitionTimeExcitation": sequence.repetition_time_ms / 1000,
        }
    prepared = {
        "ScanningSequence": "GR_IR",
        "RepetitionTimePreparation": sequence.repetition_time_ms / 1000,
        "RepetitionTimeExcitation": sequence.echo_spacing_ms / 1000,
        "NumberShots": sequence.excitations,
    }
    if isinstance(sequence, Mprage):
        times: dict[str, Any] = {
            "FlipAngle": sequence.flip_angle_deg,
            "InversionTime": sequence.inversion_time_ms / 1000,
        }
    else:
        # One image of two inversion times: as arrays, since BIDS knows them of the two images apart.
        times = {
            "FlipAngle": list(sequence.flip_angles_deg),
            "InversionTime": [time / 1000 for time in sequence.inversion_times_ms],
        }
    return prepared | times


def truth_record(head: Anatomy, pose: Matrix) -> dict[str, Any]:
    """Return what is known of a head beside its labels, as JSON; `pose` is scanner mm to template mm."""
    csf, cortex, white, deep = (
        float(share) * head.voxel_ml for share in head.tissues.sum((1, 2, 3), np.float64)
    )
    # Lesions are made of cortical GM and WM for the scanner's sake only.
    lesions = head.lesions_ml
    return {
        "VentricleScale": head.ventricle_scale,
        "CorticalThinning": head.cortical_thinning,
        "VolumesMl": {
            "Ventricles": head.ventricle_volume_ml,
            "CSF": csf,
            "CorticalGM": cortex - GREY_SHARE * lesions,
            "WM": white - (1 - GREY_SHARE) * lesions,
            "DeepGM": deep,
            "Lesions": lesions,
        },
        "ScannerToTemplate": pose.tolist(),
    }


def volume_columns(truth: dict[str, Any]) -> dict[str, str]:
    """Return the true volumes as columns of `participants.tsv`."""
    volumes = truth["VolumesMl"]
    return {
        "ventricles_ml": f"{volumes['Ventricles']:.2f}",
        "csf_ml": f"{volumes['CSF']:.1f}",
        "cortical_gm_ml": f"{volumes['CorticalGM']:.1f}",
        "wm_ml": f"{volumes['WM']:.1f}",
        "deep_gm_ml": f"{volumes['DeepGM']:.1f}",
    }
