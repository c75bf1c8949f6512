"""Reads SQL from standard input, prints the last statement's rows as JSON: a list of lists of strings, NULL as null."""

import json
import sys

import duckdb

database = duckdb.connect(config={"autoinstall_known_extensions": "false", "TimeZone": "UTC"})
relation = database.sql(sys.stdin.read())
if relation is None:
    rows = []
else:
    rows = relation.project("CAST(COLUMNS(*) AS VARCHAR)").fetchall()
json.dump(rows, sys.stdout)
