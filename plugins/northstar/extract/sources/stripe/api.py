"""Requests to Stripe's API: lists, page by page, and single objects."""

from collections.abc import Iterator
from typing import NotRequired, Protocol, TypedDict, cast

from northstar.base.errors import NorthstarError
from northstar.extract.sources.http import Json, JsonObject, Parameters, Refused

PAGE = 100
# entity -> path and parameters of its list
LISTS: dict[str, tuple[str, Parameters]] = {
    "accounts": ("customers", {}),
    "subscriptions": ("subscriptions", {"status": "all", "expand[]": ["data.discounts", "data.items.data.discounts"]}),
    "charges": ("charges", {"expand[]": "data.invoice"}),
    "refunds": ("refunds", {}),
    "invoices": ("invoices", {"expand[]": ["data.discounts", "data.lines.data.discounts"]}),
}
DISCOUNTS: Parameters = {"expand[]": ["discounts", "items.data.discounts"]}


class Item(TypedDict):
    """The keys of a subscription's item that are read. Older items have a plan instead of a price."""

    id: str
    price: NotRequired[JsonObject | None]
    plan: NotRequired[JsonObject]
    quantity: NotRequired[int | None]
    discounts: NotRequired[list[JsonObject | str]]
    tax_rates: NotRequired[list[JsonObject | str]]


class Client(Protocol):
    """What answers requests: an HttpClient, or a stand-in for one."""

    def get(self, path: str, params: Parameters | None = None) -> Json:
        """The answer. Raises Refused for an object that does not exist."""

    def now(self, path: str, params: Parameters | None = None) -> float:
        """The time by Stripe's own clock, in seconds since 1970."""


class Api:
    """The lists and objects of one account.

    parameter_changes: parameters by entity, from the source's options, which replace those of LISTS; None leaves one out.
    """

    def __init__(self, http: Client, parameter_changes: dict[str, Parameters] | None = None):
        self.http = http
        self.lists: dict[str, tuple[str, Parameters]] = {}
        for entity, (path, parameters) in LISTS.items():
            merged_parameters = {**parameters, **(parameter_changes or {}).get(entity, {})}
            self.lists[entity] = path, {name: value for name, value in merged_parameters.items() if value is not None}

    def pages(self, path: str, parameters: Parameters, after: str | None = None) -> Iterator[list[JsonObject]]:
        """The pages of a list. Raises NorthstarError for a list that repeats itself, which would never end."""
        previous_ids: set[str] = set()
        ends: set[str] = set()
        while True:
            answer = self.http.get(path, {"limit": PAGE, **parameters, **({"starting_after": after} if after else {})})
            page = [thing for thing in answer["data"] if thing["id"] not in previous_ids]
            # a long list does not fit into memory: only the ids of the last page are kept, and where each page ended
            previous_ids = {thing["id"] for thing in answer["data"]}
            if page:
                yield page
            if not answer.get("has_more"):
                return
            if not page or page[-1]["id"] in ends:
                raise NorthstarError(f"Stripe's list of {path} repeats itself after {after}; the next run tries again")
            after = page[-1]["id"]
            ends.add(after)

    def subscription(self, name: str) -> JsonObject:
        """A subscription as it is now, with its discounts; {} for one that no longer exists."""
        return self._object(f"subscriptions/{name}", DISCOUNTS)

    def items(self, subscription: JsonObject) -> list[Item]:
        """All items of a subscription. The subscription itself holds only the first of them."""
        items = subscription["items"]
        if items.get("has_more"):
            pages = self.pages("subscription_items", {"subscription": subscription["id"]})
            # cast: that list has items and nothing else
            return [cast(Item, item) for page in pages for item in page]
        first: list[Item] = items["data"]
        return first

    def cached(
        self, cache: dict[str, JsonObject], path: str, name: str, parameters: Parameters | None = None
    ) -> JsonObject:
        """An object from `cache`. One that is not there is requested and added to it, as {} if it no longer exists."""
        if name not in cache:
            cache[name] = self._object(f"{path}/{name}", parameters)
        return cache[name]

    def _object(self, path: str, parameters: Parameters | None) -> JsonObject:
        try:
            answer: JsonObject = self.http.get(path, parameters)
        except Refused as exc:
            if exc.status != 404:
                raise
            return {}
        return answer
