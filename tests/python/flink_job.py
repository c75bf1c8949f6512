"""The job of `twofold speed` in Flink SQL: the first sighting of each (ad, click id), counted per ad and minute.

`flink_job.py FORM file PATH SINK` reads NDJSON, `flink_job.py FORM topic BROKERS TOPIC RECORDS SINK` the first
RECORDS of partition 0. FORM names settings, see FORMS; SINK is a folder for the counts as CSV, or `blackhole`. Runs on
Flink's Python (`tests/setup flink`); with PLAN in the environment it prints Flink's plan.
"""

import os
import sys

SETTINGS = {"parallelism.default": "1", "table.local-time-zone": "UTC"}

# Settings, and options of the JVM. State is on the heap and there are no checkpoints in any. `tuned` was found to cost
# Flink least at this job, 5.5 us of CPU per event of a file, against 9.4 for `batched` and 11.0 for `defaults`:
# mini-batches save accesses to state, which on the heap are cheaper than the buffering, and G1 takes more CPU here.
FORMS = {
    "defaults": ({}, ""),
    "batched": ({"pipeline.object-reuse": "true", "table.exec.mini-batch.enabled": "true",
                 "table.exec.mini-batch.allow-latency": "1 s", "table.exec.mini-batch.size": "5000"}, ""),
    "tuned": ({"pipeline.object-reuse": "true"}, "-XX:+UseParallelGC -Xms4g -Xmx6g"),
}

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
    form, kind, *arguments, where = sys.argv[1:]
    settings, os.environ["JVM_ARGS"] = FORMS[form]
    from pyflink.table import EnvironmentSettings, TableEnvironment
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in {**SETTINGS, **settings}.items():
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
