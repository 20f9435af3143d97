"""Where voxels lie: the template, working grids, voxel order, resampling; and the intensity scale."""
