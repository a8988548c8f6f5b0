"""When Python looks for objects that only hold each other, in a process that ends soon and in one that goes on."""

import gc
import subprocess
import sys
import weakref

from northstar.base.collector import uncollected

SCRIPT = """
import gc
from northstar.base.collector import end_soon, uncollected

class Told:
    def __del__(self):
        print("looked through")

def cycle():
    told = Told()
    told.itself = told

{begin}
with uncollected():
    assert not gc.isenabled()
    cycle()
assert gc.isenabled()
gc.collect()
cycle()
"""


def told(begin: str) -> list[str]:
    script = SCRIPT.format(begin=begin)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[:-1]


def test_a_process_that_ends_soon_looks_through_nothing_that_it_leaves():
    assert told("end_soon()") == []
    assert told("") == ["looked through"] * 2


def test_a_process_that_goes_on_gets_back_what_was_made_while_nobody_looked():
    class Thing:
        pass

    with uncollected():
        thing = Thing()
        thing.itself, known = thing, weakref.ref(thing)
        del thing
    assert gc.isenabled() and gc.get_freeze_count() == 0
    gc.collect()
    assert known() is None
