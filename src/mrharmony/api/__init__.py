"""The Python interface: scikit-learn's manner for a harmonizer, nibabel images in and out."""
