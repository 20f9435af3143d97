"""The anatomy lock: a transform of intensities, smooth in position and monotone in intensity."""
