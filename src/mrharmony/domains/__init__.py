"""What is learned of a domain from its scans: statistics, contrast models, recognition."""
