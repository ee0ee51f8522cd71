"""The schemas and sample files of the partition, as package data."""
