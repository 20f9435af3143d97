"""What every room shares: volumes, findings and errors, atomic files, progress, workers."""
