"""Eight virtual CPU devices, so that what is laid over devices can be tested on any machine."""

from purejaxrl.devices import use_cpu_cores

use_cpu_cores(8)
