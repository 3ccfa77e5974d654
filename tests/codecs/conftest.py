from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast an example is drawn or run says something of the machine, not of the code: tests run
# beside each other on small ones.
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")
