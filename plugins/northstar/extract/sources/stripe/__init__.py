"""Stripe: customers, subscriptions as a history, charges, refunds and lost disputes, from its REST API.

    system: stripe
    connection: stripe_main     # password: a restricted key that may read; a host only to speak to another server than Stripe's
    options:
      test_mode: true           # a key of Stripe's test mode is refused without it
      plan_tiers: {price_123: pro}    # by price; else the price's metadata `plan_tier`
      repull_days: 2            # objects as young as that are listed again each time, whatever the events say
      disputes: false           # an account that may not read disputes
      lists: {subscriptions: {status: active}}     # parameters of the listings; null leaves one out

The first reading lists what there is, page by page. After that the events say what changed: a listing by `created` never
sees an update. Stripe keeps events for 30 days: a source that slept longer lists everything again. Time is Stripe's own: a clock of
ours that is before it would step over events.

An event holds the whole subscription as it was then, so each change of terms or status closes one row of the history and opens the
next. What happened before the first reading is rebuilt: as far back as there are events from them, and before that from the
invoices' subscription lines; proration lines are left out. An event names several discounts by id alone: what they are is asked for.
"""

# a source is found by the name of its system, which is this package's (declared.py): these are what a system's module has to have
from northstar.extract.sources.stripe.connector import ENTITIES, OPTIONS, connect

__all__ = ["ENTITIES", "OPTIONS", "connect"]
