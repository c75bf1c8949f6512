"""Answers a second of one core, and their latencies: ours beside a handler that does nothing and one that asks Redis.

The server has one core, the load and Redis have the other. Every line is run three times, interleaved. The load can be the
slower of the two, so what is compared is the CPU time that the server takes for an answer, at its least; the latencies are
those at half of the best throughput, in an open loop: a question is due when the plan says so.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from socket import socket
from urllib.request import urlopen

HOUR = "from=2026-03-03T11:30:00Z&to=2026-03-03T12:30:00Z"
MONTH = "granularity=hour&from=2026-02-01&to=2026-03-03"
CONNECTIONS = 16


def free_port() -> int:
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def cpu_seconds(process: subprocess.Popen) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, binary: str, seconds: int):
        self.binary, self.seconds = binary, seconds

    def load(self, rate: float, address: str, paths: list[str]) -> dict:
        command = [self.binary, "load", str(CONNECTIONS), str(self.seconds), f"{rate:.0f}", address, *paths]
        printed = subprocess.run(pinned(1, *command), check=True, capture_output=True, text=True)
        return json.loads(printed.stdout)

    def serve(self, *arguments: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(pinned(0, self.binary, *arguments), stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", required=True)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--s3", required=True, help="versitygw")
    given = parser.parse_args()
    bench = Bench(given.answers, given.seconds)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        redis = subprocess.Popen(
            pinned(1, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder),
            stdout=subprocess.DEVNULL,
        )
        servers = []
        try:
            time.sleep(1)
            url = f"redis://127.0.0.1:{port}"
            (Path(folder) / "data").mkdir()
            print("filling 30 closed days of 5,000 ads and a live hour of 100,000", flush=True)
            ours = bench.serve("twofold", url, f"{folder}/data")
            servers.append(ours)
            large = len(urlopen(f"http://{ours[1]}/v1/clicks?{HOUR}&ad_id=ad-7").read())
            for arguments in [("noop", "2"), ("noop", str(large)), ("hmget", url)]:
                servers.append(bench.serve(*arguments))
            noop, noop_as_large, hmget = servers[1:]
            lines = {
                "no-op handler": (noop, ["/"]),
                f"no-op handler, {large} bytes": (noop_as_large, ["/"]),
                "axum + HMGET of 60 fields": (hmget, ["/"]),
                "an hour by minute, one ad": (ours, [f"/v1/clicks?{HOUR}&ad_id=ad-7"]),
                "the same, compressed": (ours, [f"gzip:/v1/clicks?{HOUR}&ad_id=ad-7"]),
                "an hour by minute, 1,000 ads in turn": (ours, [f"/v1/clicks?{HOUR}&ad_id=ad-{n}" for n in range(1000)]),
                "30 days by hour, one ad": (ours, [f"/v1/clicks?{MONTH}&ad_id=ad-7"]),
                "30 days by hour, 1,000 ads in turn": (ours, [f"/v1/clicks?{MONTH}&ad_id=ad-{n}" for n in range(1000)]),
                "top 100 of 100,000 ads in an hour": (ours, [f"/v1/ads?{HOUR}&limit=100"]),
            }
            for (_, address), paths in lines.values():
                bench.load(0, address, paths)
            best, cpu = {name: 0.0 for name in lines}, {name: float("inf") for name in lines}
            for _ in range(3):
                for name, ((process, address), paths) in lines.items():
                    before = cpu_seconds(process)
                    found = bench.load(0, address, paths)["per_second"]
                    best[name] = max(best[name], found)
                    cpu[name] = min(cpu[name], (cpu_seconds(process) - before) / (found * bench.seconds))
            print(f"{'':38}{'a second':>10}{'CPU us':>10}{'no-op is':>10}{'HMGET is':>10}{'p50 ms':>9}{'p99 ms':>9}  at half of it")
            for name, ((_, address), paths) in lines.items():
                half = bench.load(max(1.0, best[name] / 2), address, paths)
                ratios = [cpu[other] / cpu[name] for other in ("no-op handler", "axum + HMGET of 60 fields")]
                print(
                    f"{name:38}{best[name]:>10.0f}{1e6 * cpu[name]:>10.1f}{ratios[0]:>10.2f}{ratios[1]:>10.2f}"
                    f"{half['p50'] / 1000:>9.2f}{half['p99'] / 1000:>9.2f}",
                    flush=True,
                )
            # A night is published while questions come at half of the best rate, by another process on the other core.
            month = "30 days by hour, one ad"
            for name in ["an hour by minute, one ad", month]:
                (_, address), paths = lines[name]
                command = [bench.binary, "load", str(CONNECTIONS), "9", f"{best[name] / 2:.0f}", address, *paths]
                load = subprocess.Popen(pinned(1, *command), stdout=subprocess.PIPE, text=True)
                time.sleep(4)
                publish = pinned(1, "nice", "-n", "19", bench.binary, "publish", f"{folder}/data")
                subprocess.run(publish, check=True, capture_output=True)
                by_second = json.loads(load.communicate()[0])["by_second"]
                print(f"a night is published after 4 s: {name}: p99 ms by second {[round(p99 / 1000, 1) for p99 in by_second]}")
            subprocess.run(["mkdir", f"{folder}/s3", f"{folder}/s3/cold"], check=True)
            gateway = subprocess.Popen(
                pinned(1, given.s3, "--keep-alive", "--region", "us-east-1", "--port", f"127.0.0.1:{(s3 := free_port())}", "posix", f"{folder}/s3"),
                env={"ROOT_ACCESS_KEY": "twofold", "ROOT_SECRET_KEY": "twofold-secret"},
                stdout=subprocess.DEVNULL,
            )
            servers.append((gateway, ""))
            time.sleep(2)
            found = subprocess.run(
                pinned(0, bench.binary, "cold", f"http://127.0.0.1:{s3}", "cold"), check=True, capture_output=True, text=True
            )
            print(f"a day of 5,000 ads by hour, one ad, from S3, ms: {found.stdout.strip()}")
        finally:
            for process, _ in servers:
                process.kill()
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    main()
