"""Stand-alone library of the CPC partition."""
