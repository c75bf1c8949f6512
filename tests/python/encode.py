"""JSON to Parquet: the archive's encoder beside arrow-json with arrow-rs's writer, Polars and DuckDB, one thread each.

The same NDJSON file for all, once with random ids (UUID version 4) and once with ordered ones (version 7). Twofold gets its
lines as values of log records and stores ten columns more than the four that the peers store: offsets, times, keys, kinds;
beside its hashes. What every program wrote is read back by DuckDB and compared before a time counts; the runs are
interleaved. CPU time is that of the whole process from the first line on.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TYPES = {"click_id": "VARCHAR", "ad_id": "VARCHAR", "user_id": "VARCHAR", "timestamp": "TIMESTAMPTZ"}
TARGETS = {"arrow": 1.8, "polars": 2.5, "duckdb": 3.0}
# Entropy of ids, users, ads and times: nothing lossless is smaller.
FLOOR = 20.3


def polars(file, target):
    import polars as pl
    schema = {"click_id": pl.String, "ad_id": pl.String, "user_id": pl.String, "timestamp": pl.String}
    frame = pl.read_ndjson(file, schema=schema)
    time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="ms", time_zone="UTC")
    frame.with_columns(time).write_parquet(target, compression="zstd", compression_level=1)
    return len(frame)


def duckdb(file, target):
    import duckdb
    duckdb.sql("SET threads = 1; SET TimeZone = 'UTC'")
    read = f"read_json('{file}', format = 'newline_delimited', columns = {TYPES})"
    duckdb.sql(f"COPY (SELECT * FROM {read}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
    return duckdb.sql(f"SELECT count(*) FROM '{target}'").fetchall()[0][0]


PEERS = {"polars": polars, "duckdb": duckdb}


def run_peer(name, file, folder):
    __import__(name)
    target = os.path.join(folder, "0.parquet")
    began, cpu = time.monotonic(), time.process_time()
    rows = PEERS[name](file, target)
    spent, wall = time.process_time() - cpu, time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{spent:.3f} {wall:.3f} {peak} {rows} {os.path.getsize(target)}")


def content(folder):
    """Sums over every click that was written, whatever the columns are called."""
    import duckdb
    duckdb.sql("SET TimeZone = 'UTC'")
    files = f"read_parquet('{folder}/*.parquet')"
    names = [name for name, *_ in duckdb.sql(f"DESCRIBE SELECT * FROM {files}").fetchall()]
    is_ours = "event_time" in names
    click, at = ("lower(hex(click_id))", "event_time") if is_ours else ("replace(click_id, '-', '')", "timestamp")
    return duckdb.sql(f"""
        SELECT count(*), sum(hash({click})::HUGEINT), sum(hash(ad_id || ' ' || user_id)::HUGEINT),
               sum(hash({click} || ad_id)::HUGEINT), sum(epoch_ms({at})::HUGEINT) FROM {files}""").fetchall()[0]


def measure(command):
    """(CPU seconds, rows, bytes)"""
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    cpu, _, _, rows, size = done.stdout.splitlines()[-1].split()
    return float(cpu), int(rows), int(size)


def compare(encode, clicks, version, rounds, scratch):
    file = os.path.join(scratch, f"clicks-{version}.ndjson")
    subprocess.run([encode, "make", file, str(clicks), version], check=True)
    print(f"\n{clicks:,} clicks whose ids are UUIDs of version {version}, {os.path.getsize(file) / clicks:.0f} bytes each as JSON",
          flush=True)
    commands = {name: [encode, name] for name in ("twofold", "collected", "arrow")}
    commands |= {name: [sys.executable, __file__, "--peer", name] for name in PEERS}
    figures, expected = {name: [] for name in commands}, None
    for _ in range(rounds):
        for name, command in commands.items():
            folder = os.path.join(scratch, "out")
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            figures[name].append(measure([*command, file, folder]))
            found = content(folder)
            expected = expected or found
            if found != expected:
                sys.exit(f"{name} wrote {found}, twofold {expected}")
    cpu = {name: statistics.median(figure[0] for figure in of) for name, of in figures.items()}
    for name, of in figures.items():
        _, rows, size = of[0]
        target = f" (target {TARGETS[name]})" if name in TARGETS else ""
        ratio = "" if name == "twofold" else f", twofold's speed / its {cpu[name] / cpu['twofold']:.2f}{target}"
        print(f"{name:10} {cpu[name] / rows * 1e9:5.0f} ns of CPU a click, {rows / cpu[name] / 1e6:5.2f} M a second, "
              f"{size / rows:5.2f} bytes{ratio}", flush=True)
    if version == "4":
        size = figures["twofold"][0][2] / figures["twofold"][0][1]
        print(f"bytes a click: {size:.2f} (target 22.8, entropy {FLOOR})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "FILE", "FOLDER"))
    parser.add_argument("--encode", help="the benchmark in Rust")
    parser.add_argument("--clicks", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.peer:
        return run_peer(*options.peer)
    with tempfile.TemporaryDirectory(prefix="twofold-encode.") as scratch:
        for version in ("4", "7"):
            compare(options.encode, options.clicks, version, options.rounds, scratch)
            print("collected: as twofold, with the headers that the collector writes")


if __name__ == "__main__":
    main()
