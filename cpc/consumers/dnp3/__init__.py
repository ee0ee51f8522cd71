"""The consumer `dnp3`: segments served to DNP3 masters. No other code of the partition speaks DNP3 northbound."""

from cpc.consumers.dnp3.consumer import Dnp3Consumer

__all__ = ["Dnp3Consumer"]
