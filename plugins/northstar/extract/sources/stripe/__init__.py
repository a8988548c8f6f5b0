"""Stripe: customers, subscriptions as a history, charges, refunds and lost disputes, from its REST API.

    system: stripe
    connection: stripe_main     # password: a restricted key with read access; host: only for a server other than Stripe's
    options:
      test_mode: true           # accept a key of Stripe's test mode, which is refused otherwise
      plan_tiers: {price_123: pro}    # the plan tier of each price (default: the price's metadata `plan_tier`)
      repull_days: 2            # objects younger than this are listed again in each run, whatever the events say
      disputes: false           # for a key that may not read disputes
      lists: {subscriptions: {status: active}}     # other parameters for the listings; null removes one

The first reading lists everything, page by page. After that the events say what changed, because a listing by `created` never
shows an update. Stripe keeps events for 30 days: a source that was not read for longer lists everything again. Times are by Stripe's
own clock: if ours were ahead of it, events would be skipped.

An event holds the whole subscription as it was then, in the version of the API that the account had then, so each change of terms or status closes one row of the history and opens the
next. What happened before the first reading is rebuilt: from the events as far back as there are any, and before that from the
invoices' subscription lines, without proration lines. Where there are several discounts, an event has only their ids, and the
discounts themselves are requested.
"""

# what the module of a system has to have (declared.py): it is found by the system's name, which is this package's
from northstar.extract.sources.stripe.connector import ENTITIES, OPTIONS, READING, connect

__all__ = ["ENTITIES", "OPTIONS", "READING", "connect"]
