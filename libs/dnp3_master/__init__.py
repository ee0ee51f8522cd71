"""DNP3 outstations as devices: a producer on opendnp3's master (by yadnp3, extra `dnp3-master`)."""

from dnp3_master.manager import Dnp3MasterManager, image_points

__all__ = ["Dnp3MasterManager", "image_points"]
