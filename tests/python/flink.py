"""Twofold beside Flink SQL (`flink_job.py`) at the same job: CPU of all processes per event, and the ratio.

The stream core over one file of NDJSON, and Kafka to counts over one topic (the benchmark `consume`, which calls this
again as its `--beside`). All counts are compared cell by cell before a time counts; the runs are interleaved. A JVM
takes seconds to start, so Flink runs over all events and over a quarter of them: the difference is its own cost.
Of less than some million events that difference is mostly what the JVM still compiles.
"""

import argparse
import csv
import ctypes
import datetime
import glob
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PR_SET_CHILD_SUBREAPER = 36


def cpu(command):
    """CPU seconds of a process and of everything that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = tempfile.mkdtemp(prefix="flink-log-")
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "FLINK_LOG_DIR": log})
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
        # PyFlink ends before its JVM does; the orphan becomes ours, and its time only counts once it was waited for.
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
    finally:
        shutil.rmtree(log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def flink(*arguments, form="tuned"):
    return [sys.executable, os.path.join(HERE, "flink_job.py"), form, *map(str, arguments)]


def counts_of_flink(folder):
    """What the job has written: {(ad, minute since 1970): clicks}."""
    counts = {}
    for path in glob.glob(os.path.join(folder, "part-*")):
        with open(path, newline="") as file:
            for ad, began, clicks in csv.reader(file):
                began = datetime.datetime.fromisoformat(began).replace(tzinfo=datetime.timezone.utc)
                counts[ad, int(began.timestamp()) // 60] = int(clicks)
    return counts


def counts_of_file(path):
    with open(path, newline="") as file:
        return {(ad, int(minute)): int(clicks) for ad, minute, clicks in csv.reader(file)}


def counts_of_redis(url):
    """What readers of the live counts see."""
    def ask(*command):
        return subprocess.run(["redis-cli", "-u", url, "--raw", *command], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.split()
    (live,) = ask("KEYS", "tf1:*:live")
    (generation,) = ask("GET", live)
    counts = {}
    for key in ask("KEYS", live.removesuffix("live") + generation + ":h:*"):
        hour, content = int(key.rsplit(":", 1)[1]), ask("HGETALL", key)
        for field, clicks in zip(content[::2], content[1::2]):
            minute, _, ad = field.split(":", 2)
            counts[ad, hour * 60 + int(minute)] = int(clicks)
    return counts


def compare(ours, theirs):
    wrong = [cell for cell in ours.keys() | theirs.keys() if ours.get(cell) != theirs.get(cell)]
    if wrong or not ours:
        sys.exit(f"the counts differ in {len(wrong)} of {len(ours)} cells, so no time counts: "
                 f"{[(cell, ours.get(cell), theirs.get(cell)) for cell in wrong[:5]]}")
    print(f"same counts in all {len(ours):,} cells of (ad, minute), {sum(ours.values()):,} clicks", flush=True)


def idle_percent():
    def read():
        with open("/proc/stat") as file:
            times = [int(word) for word in file.readline().split()[1:9]]
        return times[3], sum(times)
    idle, total = read()
    time.sleep(2)
    idle_after, total_after = read()
    return 100 * (idle_after - idle) / (total_after - total)


class Row:
    """One comparison: microseconds per event of each round."""

    def __init__(self, what):
        self.what, self.ours, self.theirs = what, [], []

    def add(self, ours, theirs):
        self.ours.append(ours)
        self.theirs.append(theirs)

    def cells(self):
        ratios = sorted(theirs / ours for ours, theirs in zip(self.ours, self.theirs))
        middle = len(ratios) // 2
        return [self.what, f"{sorted(self.ours)[middle]:.3f}", f"{sorted(self.theirs)[middle]:.2f}",
                f"{ratios[middle]:.1f}", f"{ratios[0]:.1f} to {ratios[-1]:.1f}"]


def stream_core(binary, events, rounds, folder):
    quarter = events // 4
    paths = {number: os.path.join(folder, f"{number}.ndjson") for number in (events, quarter)}
    for number, path in paths.items():
        subprocess.run([binary, str(number), "--write", path], check=True)
    print(f"{events:,} events, {os.path.getsize(paths[events]) / events:.0f} bytes each, as NDJSON", flush=True)
    answers = os.path.join(folder, "ours.csv"), os.path.join(folder, "theirs")
    cpu([binary, "--count", paths[events], answers[0]])
    cpu(flink("file", paths[events], answers[1]))
    compare(counts_of_file(answers[0]), counts_of_flink(answers[1]))
    rows = [Row("stream core, NDJSON file: own cost"), Row("  with the start of the process"),
            Row("  own cost, Flink with its defaults")]
    own, whole, defaults = rows
    marginal = lambda side: (side[events] - side[quarter]) / (events - quarter) * 1e6
    for number in range(rounds):
        ours = {size: cpu([binary, "--count", path]) for size, path in paths.items()}
        tuned, plain = ({size: cpu(flink("file", path, "blackhole", form=form)) for size, path in paths.items()}
                        for form in ("tuned", "defaults"))
        own.add(marginal(ours), marginal(tuned))
        whole.add(ours[events] / events * 1e6, tuned[events] / events * 1e6)
        defaults.add(marginal(ours), marginal(plain))
        report(number, rows)
    return rows


def kafka(binary, records, folder):
    here = [sys.executable, os.path.abspath(__file__), "--beside", folder]
    subprocess.run([binary, str(records), "--beside", *here], check=True)
    # Twofold is measured with its start in both rows, as it cannot be told to stop earlier.
    own, whole = Row("Kafka to counts: own cost"), Row("  with the start of the process")
    with open(os.path.join(folder, "rounds")) as file:
        for number, line in enumerate(file):
            ours, theirs, theirs_quarter = json.loads(line)
            own.add(ours / records * 1e6, (theirs - theirs_quarter) / (records - records // 4) * 1e6)
            whole.add(ours / records * 1e6, theirs / records * 1e6)
    return [own, whole]


def beside(folder, brokers, topic, redis, records, nanos):
    """A round on Kafka: called when Twofold has counted the topic into Redis, which took that much CPU."""
    records, answer = int(records), os.path.join(folder, "topic")
    if not os.path.exists(answer):
        cpu(flink("topic", brokers, topic, records, answer))
    compare(counts_of_redis(redis), counts_of_flink(answer))
    times = [int(nanos) / 1e9]
    times += (cpu(flink("topic", brokers, topic, number, "blackhole")) for number in (records, records // 4))
    print("CPU: Twofold {:.2f} s, Flink {:.1f} s, for a quarter of the records {:.1f} s".format(*times), flush=True)
    with open(os.path.join(folder, "rounds"), "a") as file:
        print(json.dumps(times), file=file)


def report(number, rows):
    for row in rows:
        print(f"round {number + 1}: {row.what.strip()}: {row.ours[-1]:.3f} and {row.theirs[-1]:.2f} us", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--core", help="the benchmark `stream_core`")
    arguments.add_argument("--consume", help="the benchmark `consume`")
    arguments.add_argument("--events", type=int, default=4_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--beside", nargs=6)
    options = arguments.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if options.beside:
        return beside(*options.beside)
    folder = tempfile.mkdtemp(prefix="twofold-flink-")
    try:
        print(f"{idle_percent():.0f} % of the machine's CPU is idle before the first run", flush=True)
        rows = stream_core(options.core, options.events, options.rounds, folder) if options.core else []
        rows += kafka(options.consume, options.events // 2, folder) if options.consume else []
    finally:
        shutil.rmtree(folder)
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    table = [["us of CPU per event, medians", "twofold", "Flink SQL", "ratio", "of the rounds"]]
    table += (row.cells() for row in rows)
    print()
    for cells in table:
        print("{:38} {:>8} {:>10} {:>6}   {}".format(*cells))
    print(f"the largest process, Flink's JVM, held {held:.1f} GB")


if __name__ == "__main__":
    main()
