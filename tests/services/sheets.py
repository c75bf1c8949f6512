"""Prints the lines of an export as JSON, read by libraries that know nothing of who wrote it.

CSV by pandas, XLSX by openpyxl, Parquet by DuckDB: each line as period, ad, name, counts, price, amount, currency, state, revision,
all as text; times by the clocks of the export's zone, without seconds.
"""

import csv
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import openpyxl
import pandas

COLUMNS = ["period_start", "period_end", "ad_id", "name", "clicks", "adjustment", "total", "price", "amount", "currency",
           "state", "revision"]


def from_csv(path, zone):
    table = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    lines = table[table["line"] == "line"]
    assert list(lines["time_zone"].unique()) == [zone], lines["time_zone"].unique()
    # What pandas has read is what Python's own reader reads.
    with open(path, encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table)
    return [[line[column] for column in COLUMNS] for _, line in lines.iterrows()]


def from_xlsx(path, zone):
    book = openpyxl.load_workbook(path)
    about = {name: value for name, value in book["About"].iter_rows(values_only=True)}
    assert about["time_zone"] == zone, about
    for sheet in book:
        assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row), "a formula"
    head, *lines = book["Lines"].iter_rows(values_only=True)
    places = [head.index(column) for column in COLUMNS]
    assert str(len(lines)) == about["lines"], about
    return [[line[place] for place in places] for line in lines]


def from_parquet(path, zone):
    database = duckdb.connect(config={"autoinstall_known_extensions": "false", "TimeZone": "UTC"})
    about = dict(database.sql(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')").fetchall())
    assert about["twofold.time_zone"] == zone, about
    local = [f"{column} AT TIME ZONE '{zone}'" if column.startswith("period") else column for column in COLUMNS]
    return database.sql(f"SELECT {', '.join(local)} FROM '{path}'").fetchall()


def text(column, value):
    if value is None or value == "":
        return ""
    if column.startswith("period"):
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
        return value.strftime("%Y-%m-%d %H:%M")
    if column in ("price", "amount"):
        # Numbers of Excel are binary.
        return str(Decimal(str(value)).quantize(Decimal("0.000001")))
    return str(value)


path, zone = sys.argv[1:]
read = {".csv": from_csv, ".xlsx": from_xlsx, ".parquet": from_parquet}[Path(path).suffix]
lines = [[text(column, value) for column, value in zip(COLUMNS, line)] for line in read(path, zone)]
json.dump(lines, sys.stdout)
