"""The exact recount of a day beside DuckDB, Polars, chDB and DataFusion's SQL, on the same archived Parquet files.

Every program counts the first sightings per (ad, click id) by ad and minute, in two threads, in a process of its own; all
sums are compared before a time counts; the runs are interleaved. CPU time is that of the whole process from the query on,
so neither a start nor an import counts. Each peer runs the faster of two forms of the query.
"""

import argparse
import glob
import os
import resource
import statistics
import subprocess
import sys
import time

# `pair`: grouped by ad and click. `id`: by click alone, which is right only as long as no id stands under two ads.
FIRST = {
    "pair": "SELECT ad_id AS ad, click_id, min(event_time) AS t FROM {raw} WHERE {valid} GROUP BY ad_id, click_id",
    "id": "SELECT min(ad_id) AS ad, min(event_time) AS t FROM {raw} WHERE {valid} GROUP BY click_id",
}
# Bytes that the hungriest peer took.
MEMORY_PER_CLICK = 250
DAY_END = "2026-03-02 00:00:00"


def sums(minutes, clicks):
    """(clicks, cells, check) of arrays of minutes of the day and of clicks, as the benchmark in Rust makes them."""
    import numpy as np
    minutes, clicks = np.asarray(minutes, dtype=np.uint64), np.asarray(clicks, dtype=np.uint64)
    return int(clicks.sum()), len(clicks), int((clicks * clicks * (minutes + 1)).sum())


def duckdb(files, form):
    import duckdb
    duckdb.sql("SET threads = 2; SET TimeZone = 'UTC'")
    first = FIRST[form].format(raw=f"read_parquet({files!r})", valid=f"kind = 0 AND event_time < TIMESTAMPTZ '{DAY_END}+00'")
    return duckdb.sql(f"""
        SELECT ad, (epoch_ms(t) // 60000) % 1440 AS minute, count(*) AS clicks FROM ({first}) GROUP BY ALL""").to_arrow_table()


def datafusion(files, form):
    import datafusion
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(2))
    context.register_parquet("raw", os.path.commonpath(files), file_extension=".parquet")
    first = FIRST[form].format(raw="raw", valid=f"kind = 0 AND event_time < TIMESTAMP '{DAY_END}Z'")
    return context.sql(f"""
        SELECT ad, (arrow_cast(t, 'Int64') / 60000) % 1440 AS minute, count(*) AS clicks
        FROM ({first}) GROUP BY 1, 2""").to_arrow_table()


def chdb(files, form):
    import chdb
    pattern = os.path.join(os.path.commonpath(files), "**", "*.parquet")
    first = FIRST[form].format(raw=f"file('{pattern}', Parquet)", valid=f"kind = 0 AND event_time < toDateTime64('{DAY_END}', 3, 'UTC')")
    return chdb.query(f"""
        SELECT ad, intDiv(toUnixTimestamp64Milli(assumeNotNull(t)), 60000) % 1440 AS minute, count() AS clicks
        FROM ({first}) GROUP BY ad, minute SETTINGS max_threads = 2""", "ArrowTable")


def polars(files, form):
    import datetime
    import polars as pl
    end = datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc)
    raw = pl.scan_parquet(files).filter((pl.col("kind") == 0) & (pl.col("event_time") < end))
    by = ["ad_id", "click_id"] if form == "pair" else ["click_id"]
    values = [pl.col("event_time").min()] + ([] if form == "pair" else [pl.col("ad_id").min()])
    first = raw.group_by(by).agg(values)
    minute = ((pl.col("event_time").dt.epoch("ms") // 60000) % 1440).alias("minute")
    return first.group_by("ad_id", minute).agg(pl.len().alias("clicks")).collect(engine="streaming").to_arrow()


PEERS = {"duckdb": duckdb, "datafusion": datafusion, "chdb": chdb, "polars": polars}


def run_peer(name, form, folder):
    files = raw_files(folder)
    __import__(name)
    began, cpu = time.monotonic(), time.process_time()
    table = PEERS[name](files, form)
    spent, wall = time.process_time() - cpu, time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{spent:.3f} {wall:.3f} {peak} 0", *sums(table["minute"].to_numpy(), table["clicks"].to_numpy()))


def raw_files(folder):
    return sorted(glob.glob(os.path.join(os.path.abspath(folder), "raw", "**", "*.parquet"), recursive=True))


def measure(command):
    """(CPU seconds, wall seconds, peak bytes, records, sums)"""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "POLARS_MAX_THREADS": "2"})
    if done.returncode != 0:
        return None, f"{' '.join(command)} failed:\n{done.stderr[-1500:]}"
    cpu, wall, peak, rows, *rest = done.stdout.splitlines()[-1].split()
    return (float(cpu), float(wall), int(peak), int(rows), tuple(map(int, rest))), done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "FORM", "FOLDER"))
    parser.add_argument("--recount", help="the benchmark in Rust")
    parser.add_argument("--folder")
    parser.add_argument("--clicks", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    if options.peer:
        return run_peer(*options.peer)

    if not raw_files(options.folder):
        print(f"making {options.clicks:,} clicks ...", flush=True)
        subprocess.run([options.recount, "make", options.folder, str(options.clicks)], check=True)
    size = sum(map(os.path.getsize, raw_files(options.folder)))
    print(f"{len(raw_files(options.folder))} objects, {size / 1e6:,.0f} MB", flush=True)

    commands = {"twofold": [options.recount, "count", options.folder]}
    # A click takes 32 bytes until it is judged.
    quarter = max(1, options.clicks * 32 // 4 // 2**20)
    commands["twofold spilling"] = [options.recount, "count", options.folder, str(quarter)]
    peers = [name for name in options.peers.split(",") if name]
    if options.clicks * MEMORY_PER_CLICK > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        print("the peers are left out: they would need more memory than there is")
        peers = []
    for name in peers:
        for form in FIRST:
            commands[f"{name} {form}"] = [sys.executable, __file__, "--peer", name, form, options.folder]
    figures = {name: [] for name in commands}
    records, expected = 0, None
    for round_ in range(options.rounds):
        for name, command in list(commands.items()):
            figure, said = measure(command)
            if figure is None:
                print(f"{name}: no result\n{said}")
                del commands[name], figures[name]
                continue
            if name == "twofold":
                records, expected = figure[3], figure[4]
            if figure[4] != expected:
                sys.exit(f"{name} counts {figure[4]}, twofold {expected}")
            figures[name].append(figure)
            print(f"round {round_ + 1}: {name:16} {figure[0]:7.2f} s CPU {figure[1]:7.2f} s {figure[2] / 1e9:6.2f} GB", flush=True)

    cpu = {name: statistics.median(figure[0] for figure in of) for name, of in figures.items()}
    own = cpu.pop("twofold")
    print(f"\n{records:,} records, {expected[0]:,} clicks, {expected[1]:,} cells; all counted the same")
    print(f"twofold          {own:7.2f} s CPU, {records / own / 1e6:5.1f} M records per CPU second")
    spilling = cpu.pop("twofold spilling")
    print(f"twofold spilling {spilling:7.2f} s CPU in {quarter} MiB, a quarter of its working set: {spilling / own:.2f} (target 1.5)")
    for name, spent in sorted(cpu.items(), key=lambda item: item[1]):
        print(f"{name:16} {spent:7.2f} s CPU, ratio {spent / own:.2f}")
    if cpu:
        print(f"best peer / twofold: {min(cpu.values()) / own:.2f} (target 3)")

    print("\nthe whole night, on a copy of the archive:")
    for _ in range(options.rounds):
        copy = options.folder.rstrip("/") + ".night"
        subprocess.run(["rm", "-rf", copy], check=True)
        subprocess.run(["cp", "-rl", options.folder, copy], check=True)
        figure, said = measure([options.recount, "night", copy])
        subprocess.run(["rm", "-rf", copy], check=True)
        if figure is None:
            sys.exit(said)
        print(f"{figure[0]:7.2f} s CPU {figure[1]:7.2f} s {figure[2] / 1e9:6.2f} GB; night / recount {figure[0] / own:.2f} (target 1.6)"
              f"\n  {said.strip()}", flush=True)


if __name__ == "__main__":
    main()
