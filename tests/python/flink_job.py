"""The job of `twofold speed` in Flink SQL: the first sighting of each (ad, click id), counted per ad and minute.

`flink_job.py file PATH SINK` reads NDJSON, `flink_job.py topic BROKERS TOPIC RECORDS SINK` the first RECORDS of
partition 0. SINK is a folder for the counts as CSV, or `blackhole`. Runs on Flink's Python (`tests/setup flink`).
"""

import os
import sys

# What was found to cost Flink least at this job. Of 2 M events in a file its processes took 29 CPU-s so, 40 with G1 and
# mini-batches, 36 with G1 and no mini-batches: they save accesses to state, and on the heap those are cheaper than the
# buffering. There are no checkpoints.
SETTINGS = {
    "parallelism.default": "1",
    "table.local-time-zone": "UTC",
    "pipeline.object-reuse": "true",
    "state.backend.type": "hashmap",
    "table.exec.mini-batch.enabled": "false",
}
JVM = "-XX:+UseParallelGC -Xms4g -Xmx6g"

# Only the fields that the count needs; late is what is ten minutes late, as in Twofold.
SOURCE = """
CREATE TABLE clicks (
  click_id STRING,
  ad_id STRING,
  `timestamp` TIMESTAMP_LTZ(3),
  arrival AS PROCTIME(),
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '10' MINUTE
) WITH ('format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', {connector})
"""

SINK = "CREATE TABLE counts (ad_id STRING, began TIMESTAMP(3), clicks BIGINT) WITH ({connector})"

COUNT = """
INSERT INTO counts
SELECT ad_id, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE sightings, DESCRIPTOR(`timestamp`), INTERVAL '1' MINUTE))
GROUP BY ad_id, window_start, window_end
"""

# First is what arrived first, which is how Twofold defines it and what costs Flink least: nothing is ever retracted.
FIRST = """
CREATE TEMPORARY VIEW sightings AS
SELECT ad_id, click_id, `timestamp` FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY ad_id, click_id ORDER BY arrival ASC) AS sighting FROM clicks)
WHERE sighting = 1
"""


def connector(kind, arguments):
    if kind == "file":
        return f"'connector' = 'filesystem', 'path' = 'file://{os.path.abspath(arguments[0])}'"
    brokers, topic, records = arguments
    return (f"'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}', "
            f"'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'specific-offsets', "
            f"'scan.bounded.specific-offsets' = 'partition:0,offset:{records}'")


def sink(where):
    if where == "blackhole":
        return "'connector' = 'blackhole'"
    return f"'connector' = 'filesystem', 'path' = 'file://{os.path.abspath(where)}', 'format' = 'csv'"


def main():
    os.environ["JVM_ARGS"] = JVM
    from pyflink.table import EnvironmentSettings, TableEnvironment
    kind, *arguments, where = sys.argv[1:]
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in SETTINGS.items():
        environment.get_config().set(name, value)
    environment.execute_sql(SOURCE.format(connector=connector(kind, arguments)))
    environment.execute_sql(SINK.format(connector=sink(where)))
    environment.execute_sql(FIRST)
    plan = environment.explain_sql(COUNT)
    if "Deduplicate(keep=[FirstRow]" not in plan:
        sys.exit(f"Flink would not deduplicate by its operator for that:\n{plan}")
    if "PLAN" in os.environ:
        print(plan)
    environment.execute_sql(COUNT).wait()


if __name__ == "__main__":
    main()
