from pathlib import Path

import numpy as np
from matplotlib.image import imread

from mrharmony.report.contact_sheet import Panel, contact_sheet


def test_a_sheet_shows_first_axis_to_the_right_and_second_axis_up(tmp_path: Path):
    image = np.zeros((20, 20), np.float32)
    image[12:, 12:] = 1.3
    contact_sheet([("row", [Panel("corner", image)])], "title", tmp_path / "sheet.png")
    picture = imread(tmp_path / "sheet.png")[..., :3].mean(axis=2)
    rows, columns = np.nonzero(picture[80:] > 0.99)
    assert np.median(columns) > picture.shape[1] / 2
    assert np.median(rows) < picture[80:].shape[0] / 2


def test_every_row_has_its_panels(tmp_path: Path):
    panel = Panel("difference", np.zeros((8, 8), np.float32), is_difference=True)
    contact_sheet([("a", [panel, panel]), ("b", [panel, panel])], "title", tmp_path / "sub" / "sheet.png")
    height, width, _ = imread(tmp_path / "sub" / "sheet.png").shape
    assert height > 400
    assert width > 400
