"""All methods on one data set, under the same preparation and the same splits, in one table."""
