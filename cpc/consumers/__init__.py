"""Consumers: processes that read segments and hand on what stands there. The contract, and a base to build them on.

Each kind is a module or package beside this one, or a class of yours; none imports another.
"""

from cpc.consumers.base import Base
from cpc.consumers.contract import Consumer, Context, Health, Refused
from cpc.consumers.feed import Feed

__all__ = ["Base", "Consumer", "Context", "Feed", "Health", "Refused"]
