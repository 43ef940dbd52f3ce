"""Verification; it lives in `dataplane.upkeep.verify`."""

from dataplane.upkeep.verify import Problem, Report, referenced, verify_lake

__all__ = ["Problem", "Report", "referenced", "verify_lake"]
