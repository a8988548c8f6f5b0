"""What the audit's start does without."""

import subprocess
import sys

PROBE = """
import sys
from northstar.audit.engine import great_expectations
gx = great_expectations()
assert gx is great_expectations() and gx.ExpectationSuite
for name in ("altair.vegalite", "scipy.stats._stats_py", "azure.core", "boto3", "google.cloud.storage"):
    assert name not in sys.modules, name
import boto3, scipy.stats, scipy
import google.cloud.storage
assert scipy.stats is sys.modules["scipy.stats"] and round(scipy.stats.norm.cdf(1.959963984540054), 6) == 0.975
print("whole")
"""


def test_the_audit_starts_without_what_it_does_not_use_and_others_have_it_afterwards():
    assert subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True).stdout == "whole\n"
