"""What the audit's start does without."""

import subprocess
import sys

PROBE = """
import sys
import pydantic.v1.utils
from pydantic.v1.fields import ModelField
deepcopy, copied_deep = pydantic.v1.utils.deepcopy, []
pydantic.v1.utils.deepcopy = lambda value: copied_deep.append(value) or deepcopy(value)
from northstar.audit.engine import great_expectations
gx = great_expectations()
assert gx is great_expectations() and gx.ExpectationSuite
for name in ("altair.vegalite", "scipy.stats._stats_py", "azure.core", "boto3", "google.cloud.storage"):
    assert name not in sys.modules, name
import boto3, scipy.stats, scipy
import google.cloud.storage
import pydantic.v1
from pydantic.v1.utils import smart_deepcopy
assert pydantic.v1.main.smart_deepcopy is smart_deepcopy
extended = [(c, b) for b in pydantic.v1.BaseModel.__subclasses__() for c in b.__subclasses__() if b.__fields__]
for c, b in extended:
    for name in c.__fields__.keys() & b.__fields__.keys():
        mine, inherited = c.__fields__[name], b.__fields__[name]
        assert mine is not inherited and mine.class_validators is not inherited.class_validators, name
        assert mine.field_info is not inherited.field_info, name
assert extended
assert not [v for v in copied_deep if isinstance(v, dict) and any(isinstance(field, ModelField) for field in v.values())]
assert scipy.stats is sys.modules["scipy.stats"] and round(scipy.stats.norm.cdf(1.959963984540054), 6) == 0.975
print("whole")
"""


def test_the_audit_starts_without_what_it_does_not_use_and_others_have_it_afterwards():
    assert subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True).stdout == "whole\n"
