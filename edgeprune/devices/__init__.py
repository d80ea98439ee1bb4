"""Targets by name: device profiles, their schema, and the rates of a device in one power mode.

In: a target's name.
Out: its profile, and the rates that the cost model computes with.
May import: support and below; it reads the data files in hwprofiles/.
"""

from edgeprune.devices.energy_rates import EnergyRates, energy_rates
from edgeprune.devices.operating_point import Device, Precision
from edgeprune.devices.runtimes import AUTO, RUNTIMES, Runtime
from edgeprune.devices.targets import Profile, load_profile, target_names, watts_of
