"""From NDJSON to per-minute tables: Twofold (`demo --input`) beside DuckDB, interleaved, on one seeded file.

Twofold does the whole way: HTTP, log, live counts, raw Parquet, exact recount, ledger, tables, proof. DuckDB does the
count alone: parse, first sighting per (ad, click id), count per ad and minute, write Parquet. Both results are compared
before a time counts. CPU is that of the whole process tree.
"""

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

PEER = """
import sys, duckdb
duckdb.sql("SET threads = 2")
duckdb.sql(f'''
COPY (
  SELECT ad_id, date_trunc('minute', first) AS minute, count(*) AS clicks FROM (
    SELECT ad_id, click_id, min(timestamp) AS first
    FROM read_json('{sys.argv[1]}', format = 'newline_delimited', ignore_errors = true,
      columns = {{click_id: 'UUID', ad_id: 'VARCHAR', user_id: 'VARCHAR', timestamp: 'TIMESTAMP'}})
    GROUP BY ad_id, click_id)
  GROUP BY ALL ORDER BY minute, ad_id
) TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)''')
"""


def write_clicks(path, lines, seed):
    """A day of clicks: 5 % retries within ten minutes of the same click, the hottest ad has a fifth of them."""
    rnd = random.Random(seed)
    start = 1_767_225_600  # 2026-01-01
    with open(path, "w") as out:
        for n in range(lines):
            ad = 0 if rnd.random() < 0.2 else int(rnd.random() ** 2 * 10_000)
            moment = start + int(n / lines * 86_400)
            click = uuid.UUID(int=rnd.getrandbits(128))
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
            line = (f'{{"click_id":"{click}","ad_id":"ad-{ad}","user_id":"u{rnd.randrange(10**6)}",'
                    f'"timestamp":"{stamp}.{rnd.randrange(1000):03}Z"}}\n')
            out.write(line)
            if rnd.random() < 0.05:
                out.write(line)


def timed(command):
    """(wall seconds, CPU seconds) of a process tree."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return wall, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def compare(ours, theirs):
    import duckdb
    tables = f"{ours}/tables/current/minute/*/data.parquet"
    wrong = duckdb.sql(f"""
        SELECT count(*) FROM
          (SELECT ad_id, period_start::TIMESTAMP AS minute, clicks + adjustment AS clicks
           FROM read_parquet('{tables}') WHERE clicks + adjustment > 0) a
          FULL JOIN read_parquet('{theirs}') b USING (ad_id, minute)
        WHERE a.clicks IS DISTINCT FROM b.clicks""").fetchall()[0][0]
    if wrong:
        sys.exit(f"the results differ in {wrong} cells: no time counts")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    folder = tempfile.mkdtemp(prefix="twofold-bench-")
    try:
        clicks = os.path.join(folder, "clicks.ndjson")
        write_clicks(clicks, options.lines, seed=1)
        size = os.path.getsize(clicks) / 1e6
        with open(clicks) as file:
            lines = sum(1 for _ in file)
        print(f"{lines:,} lines, {size:.0f} MB")
        rows = []
        for number in range(options.rounds):
            out, peer = os.path.join(folder, f"out{number}"), os.path.join(folder, f"peer{number}.parquet")
            ours = timed([options.binary, "demo", "--once", "--input", clicks, "--data", out,
                          "--page", "127.0.0.1:0", "--collector", "127.0.0.1:0"])
            theirs = timed([sys.executable, "-c", PEER, clicks, peer])
            compare(out, peer)
            rows.append((ours, theirs))
            print(f"round {number + 1}: twofold {ours[0]:.1f} s wall, {ours[1]:.1f} s CPU; "
                  f"duckdb {theirs[0]:.1f} s wall, {theirs[1]:.1f} s CPU; CPU ratio {ours[1] / theirs[1]:.2f}")
        ratios = sorted(ours[1] / theirs[1] for ours, theirs in rows)
        walls = sorted(lines / ours[0] for ours, _ in rows)
        print(f"whole way, lines per second (median): {walls[len(walls) // 2]:,.0f}")
        print(f"CPU, Twofold's whole way / DuckDB's count alone: median {ratios[len(ratios) // 2]:.2f} "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
