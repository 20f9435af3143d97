"""What harmonization did to one scan: drift figures, structure, uncertainty, a verdict."""
