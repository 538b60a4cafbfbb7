"""Prints Parquet files as tables.

Usage: show.py FILE...
"""
import sys

import pandas

for path in sys.argv[1:]:
    print(pandas.read_parquet(path).to_string(index=False))
