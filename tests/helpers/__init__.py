"""What the tests of several folders share: brains, scans, models and files that are made in seconds."""
