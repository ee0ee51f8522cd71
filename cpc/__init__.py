"""The CPC partition: composition only; the work is done by the libraries in libs/."""

__version__ = "0.1.0"
