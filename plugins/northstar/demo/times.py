"""Instants between numpy, where the random numbers are, and pandas, where the tables are."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.float64]
Instants = npt.NDArray[np.datetime64]


def moments_from(start: datetime, seconds: Numbers) -> pd.Series:
    """UTC instants that lie `seconds` (an array) after `start`."""
    offset = pd.to_timedelta(np.asarray(seconds).astype("int64"), unit="s")
    return pd.Series(pd.to_datetime(start, utc=True) + offset).dt.as_unit("us")


def moments(values: Instants) -> pd.Series:
    """UTC instants from numpy's datetime64."""
    return pd.Series(pd.to_datetime(values, utc=True)).dt.as_unit("us")


def instants(column: pd.Series) -> Instants:
    """numpy's datetime64 from UTC instants."""
    values: Instants = column.dt.tz_localize(None).to_numpy()
    return values


def season(moments: Instants) -> Numbers:
    """The season's factor at each moment (datetime64), 0.6 to 1: less goes on in summer and around the turn of the year."""
    day = pd.DatetimeIndex(moments).dayofyear.to_numpy()
    summer = np.exp(-(((day - 212) / 24.0) ** 2))
    turn = np.exp(-((np.minimum(np.abs(day - 360), day + 5) / 6.0) ** 2))
    share: Numbers = 1 - 0.25 * summer - 0.4 * turn
    return share
