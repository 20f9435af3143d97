"""Where things lie: the template, working grids, resampling, voxel order, the intensity scale."""
