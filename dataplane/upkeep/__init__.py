"""Keeping a lake: expire versions, collect garbage, count bytes, verify and repair."""

from dataplane.upkeep.collector import GcReport, gc
from dataplane.upkeep.expire import ExpireResult, expire, rm
from dataplane.upkeep.usage import Usage, UsageReport, usage
from dataplane.upkeep.verify import Problem, Report, verify_lake

__all__ = ["ExpireResult", "GcReport", "Problem", "Report", "Usage", "UsageReport", "expire", "gc", "rm", "usage", "verify_lake"]
