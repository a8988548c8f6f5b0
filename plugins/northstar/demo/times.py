"""Instants between numpy, where the random numbers are, and pandas, where the tables are."""

import numpy as np
import pandas as pd


def moments_from(start, seconds) -> pd.Series:
    """UTC instants that lie `seconds` (an array) after `start`."""
    offset = pd.to_timedelta(np.asarray(seconds).astype("int64"), unit="s")
    return pd.Series(pd.to_datetime(start, utc=True) + offset).dt.as_unit("us")


def moments(values: np.ndarray) -> pd.Series:
    """UTC instants from numpy's datetime64."""
    return pd.Series(pd.to_datetime(values, utc=True)).dt.as_unit("us")


def instants(column: pd.Series) -> np.ndarray:
    """numpy's datetime64 from UTC instants."""
    return column.dt.tz_localize(None).to_numpy()


def season(moments) -> np.ndarray:
    """How much of the usual goes on at each moment (datetime64), 0.6 to 1: less in summer and around the turn of the year."""
    day = pd.DatetimeIndex(moments).dayofyear.to_numpy()
    summer = np.exp(-(((day - 212) / 24.0) ** 2))
    turn = np.exp(-((np.minimum(np.abs(day - 360), day + 5) / 6.0) ** 2))
    return 1 - 0.25 * summer - 0.4 * turn
